"""Which side-cars lie beside the sets of a training."""

from collections.abc import Mapping
from pathlib import Path

from dofsuite.data.manifest import MANIFEST_FILE
from dofsuite.data.remote import file_system, join
from dofsuite.data.shards import ShardReader
from dofsuite.data.sidecar import Sidecar


def open_sidecars(
    readers: Mapping[str, ShardReader], names: Mapping[str, str]
) -> dict[str, dict[str, Sidecar]]:
    """Open the side-cars of each set, by key of the set and kind.

    Args:
        readers: The sets by key; the training's begin with `data.train.`.
        names: Kind -> of which networks it has to be (`name_of`).

    Raises:
        UserError: As `Sidecar`.
    """
    opened: dict[str, dict[str, Sidecar]] = {key: {} for key in readers}
    training = readers.keys() - {"data.val"}
    for kind, name in names.items():
        found = {key for key, reader in readers.items() if _lies_beside(reader, kind)}
        # Beside one of two training sets they would save little: the network is needed anyway.
        if not training <= found:
            found -= training
        for key in found:
            opened[key][kind] = Sidecar(readers[key], kind, name)
    return opened


def _lies_beside(reader: ShardReader, kind: str) -> bool:
    folder = join(reader.folder, kind)
    if isinstance(folder, Path):
        return folder.is_dir()
    files, path = file_system(join(folder, MANIFEST_FILE))
    return bool(files.exists(path))
