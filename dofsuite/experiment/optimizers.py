"""Optimizers of other packages that a file may name: AdamW with moments of 8 bits."""

import importlib
import importlib.util
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from dofsuite.errors import UserError
from dofsuite.experiment.command import COMMAND_LINE
from dofsuite.training.run.dotted_keys import flat

# As they are imported, and where they are defined, which the parser resolves them to.
EIGHT_BIT = (
    "torchao.optim.AdamW8bit",
    "torchao.optim.adam.AdamW8bit",
    "bitsandbytes.optim.AdamW8bit",
    "bitsandbytes.optim.adamw.AdamW8bit",
)


def prepare_optimizers(file: Path, content: dict[str, Any], words: Sequence[str]) -> None:
    """Make the optimizers of these that an experiment names ready for the parser.

    Raises:
        UserError: The package of one is not installed; names the key and the extra.
    """
    # Where one is named
    named = [(str(file), key, value) for key, value in flat(content).items()]
    for word, following in pairwise([*words, ""]):
        key, is_inline, value = word.partition("=")
        named.append((COMMAND_LINE, key, value if is_inline else following))
    for source, key, path in named:
        if path not in EIGHT_BIT:
            continue
        # The parser would hide why it cannot be imported
        package = path.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"{source}: {key}: {path} needs {package}: pip install 'dofsuite[quantize]'."
            )
        # It writes no class of whose arguments one has no type
        module, _, name = path.rpartition(".")
        optimizer = getattr(importlib.import_module(module), name)
        optimizer.__init__.__annotations__.setdefault("params", Iterable)
