"""Which shards a run was begun with: the same path or address may hold others when it goes on.

What is compared is the manifest's checksums, of remote sets too: they are those of every file in
the shards, and each copy is compared with them when it comes, so that a version mark of the server
(an ETag) would say less. The manifest is all that is read for it.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dofsuite.data.manifest import MANIFEST_FILE, fingerprint
from dofsuite.data.remote import RemoteCache, is_remote
from dofsuite.data.shard_files import files_of
from dofsuite.errors import UserError
from dofsuite.experiment.keys import ProvidedKeys, source_of
from dofsuite.files import parse_json, write_json

RECORD = "shards.json"


def shards_of(config: Mapping[str, Any]) -> dict[str, str]:
    """Return the checksum of each folder of shards or remote one that an experiment names, by key.

    Raises:
        UserError: A manifest is damaged, or a remote one cannot be read.
    """
    # Sources and held-out set, as `ShardData` names them
    data = config["data"].get("init_args") or {}
    train = data.get("train")
    sources = train if isinstance(train, dict) else {}
    folders = {f"data.train.{tag}": each for tag, each in sources.items()}
    folders["data.val"] = data.get("val")
    # Synthetic sets are written here, one content a version
    settings = data.get("remote")
    remote = RemoteCache(**settings) if isinstance(settings, dict) else None
    return {
        key: fingerprint(files_of(folder, remote).manifest())
        for key, folder in folders.items()
        if isinstance(folder, str)
        and (is_remote(folder) or (Path(folder) / MANIFEST_FILE).is_file())
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
                f"in {folder} was begun with (the checksums of their manifest differ); put them "
                "back, or name another folder with --trainer.default_root_dir."
            )


def record_shards(config: Mapping[str, Any], folder: Path, is_begun: bool) -> None:
    """Record the shards of a start, in addition to those of earlier ones where the run `is_begun`.

    Before its first checkpoint nothing was trained on the shards of an earlier start.
    """
    if now := shards_of(config):
        write_json(folder / RECORD, {**now, **(_recorded(folder) if is_begun else {})})


def _recorded(folder: Path) -> dict[str, str]:
    try:
        recorded = parse_json((folder / RECORD).read_text())
    except (OSError, ValueError):
        return {}
    return recorded if isinstance(recorded, dict) else {}
