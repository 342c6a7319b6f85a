"""Which shards a run was begun with: the same path may hold others when it goes on."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dofsuite.data.manifest import MANIFEST_FILE, fingerprint, read_manifest
from dofsuite.errors import UserError
from dofsuite.experiment.keys import ProvidedKeys, source_of
from dofsuite.files import parse_json, write_json

RECORD = "shards.json"


def shards_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksum of each local folder of shards that an experiment names, by its key.

    Raises:
        UserError: A manifest is damaged.
    """
    # Sources and held-out set, as `ShardData` names them
    data = config["data"].get("init_args") or {}
    train = data.get("train")
    sources = train if isinstance(train, dict) else {}
    folders = {f"data.train.{tag}": each for tag, each in sources.items()}
    folders["data.val"] = data.get("val")
    return {
        key: fingerprint(read_manifest(Path(folder)))
        for key, folder in folders.items()
        if isinstance(folder, str) and (Path(folder) / MANIFEST_FILE).is_file()
    }


def check_same_shards(
    sources: tuple[ProvidedKeys, ...], config: Mapping[str, Any], folder: Path
) -> None:
    """Compare the shards with those that the run in `folder` was begun with, where it recorded any.

    Raises:
        UserError: Others lie at the same place.
    """
    before = _recorded(folder)
    for key, now in shards_of(config).items():
        if before.get(key, now) != now:
            source, given = source_of(sources, key)
            raise UserError(
                f"{source.source}: {source.spelled(given)}: its shards are not those that the run "
                f"in {folder} was begun with; put them back, or name another folder with "
                "--trainer.default_root_dir."
            )


def record_shards(config: Mapping[str, Any], folder: Path) -> None:
    """Record the shards of a start, in addition to those of earlier ones."""
    if now := shards_of(config):
        write_json(folder / RECORD, {**now, **_recorded(folder)})


def _recorded(folder: Path) -> dict[str, str]:
    try:
        recorded = parse_json((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}
