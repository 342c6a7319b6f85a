"""Models whose code lies in a repository of their own: whether it is trusted, and what it needs."""

import json
import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import ClassVar

from dofsuite.errors import UserError


class MayRunRemoteCode:
    """A description of a model that may be code of its own repository, which runs here.

    Such code runs only where the user says `trust_remote_code: true`, and from the hub only at a
    commit, which cannot change afterwards. An export never says it (`descriptors.describe`).
    """

    # Module that the code imports and dofsuite does not need -> name for pip, and the extra of
    # dofsuite that holds them.
    packages: ClassVar[Mapping[str, str]] = {}
    extra: ClassVar[str] = ""
    trust_remote_code: bool = False

    def code_place(self) -> tuple[str, str | None] | None:
        """Return the repository or folder whose code runs, with its revision; None for none."""
        return None

    def check_runnable(self, key: str = "") -> None:
        """Check that the code is trusted and that its packages are there; imports nothing.

        Args:
            key: Of the experiment that names this network.

        Raises:
            UserError: It is not, or some are missing; names them and the extra.
        """
        self.check_trusted(key)
        missing = [name for module, name in self.packages.items() if find_spec(module) is None]
        if missing:
            raise UserError(
                f"{type(self).__name__}: its code needs packages that are not installed "
                f"({', '.join(missing)}): pip install 'dofsuite[{self.extra}]', with the "
                "torchvision that fits your torch."
            )

    def check_trusted(self, key: str = "") -> None:
        """Check that code of others was trusted, at a revision that stays.

        Args:
            key: Of the experiment that names this network.

        Raises:
            UserError: It was not; says what to set.
        """
        if (place := self.code_place()) is None:
            return
        # Said by the user, for what cannot change afterwards
        path, revision = place
        name = type(self).__name__
        if not self.trust_remote_code:
            where = path if revision is None else f"{path}@{revision}"
            option = f"add --{key}.trust_remote_code true" if key else "set trust_remote_code: true"
            raise UserError(
                f"{name}: trust_remote_code: this network is code that lies at {where} and would "
                f"run here; look at it, then {option}."
            )
        if not Path(path).exists() and not re.fullmatch(r"[0-9a-f]{40}", revision or ""):
            raise UserError(
                f"{name}: revision: {revision or 'null'} of {path} can change after you trusted "
                "it; give the 40 digits of a commit."
            )


def check_own_code(folder: Path) -> None:
    """Check that a folder's configuration names no code but its own (transformers would fetch it).

    Raises:
        UserError: It names another repository's.
    """
    try:
        names = json.loads((folder / "config.json").read_text()).get("auto_map", {})
        places = [name.partition("--")[0] for name in names.values() if "--" in name]
    except (OSError, ValueError, AttributeError, TypeError):
        return  # what loads it says what is wrong
    if places:
        raise UserError(
            f"{folder}: config.json: its code is that of {places[0]}, at no commit; copy that code "
            "into the folder and name it in auto_map."
        )
