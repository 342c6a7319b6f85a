"""`import`: a copy of a published data set in, shards and real pairs out.

    OUT/train/, OUT/val/, OUT/test/   shards of all-in-focus images, as `data pack` writes them
    OUT/pairs/                        images/ and pairs.json, for `evaluate build-benchmark`

Nothing is downloaded. What the license says is printed before the first file is read, and a purpose
that it does not grant is refused. OUT appears once everything in it is complete.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Literal

from dofsuite.cli import option
from dofsuite.data.importers.data_set import (
    HELD_OUT,
    NOT_STATED,
    DataSet,
    Found,
    Photograph,
    Purpose,
    Split,
)
from dofsuite.data.importers.hugging_face import licence_of_card
from dofsuite.data.importers.pairs_file import write_pairs
from dofsuite.data.packing.match_files import Listing, Pair
from dofsuite.data.packing.pack import (
    DEPTH_UNITS,
    NAMED_FAULTS,
    PackConfig,
    PairReader,
    PredictDisparity,
    pack_pairs,
)
from dofsuite.data.packing.photo_exif import exif_of_photograph
from dofsuite.data.shards import new_folder
from dofsuite.depth_options import AUTO, DEPTH_MODEL
from dofsuite.errors import UserError
from dofsuite.exif import CameraExif

# A module of this package each, with its `DATA_SET`.
NAMES = ("ebb", "realbokeh", "hdr_plus", "dpdd", "blb", "lfdof", "folder", "hugging_face")
NON_COMMERCIAL = re.compile(r"\bnc\b|non-?commercial", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class ImportConfig:
    """Which data set, and what for."""

    name: str = option(choices=NAMES, metavar="NAME", help=", ".join(NAMES))
    folder: Path = option(
        type=Path, metavar="FOLDER", help="your copy of it; nothing is downloaded"
    )
    output: Path = option("-o", "--output", type=Path, metavar="OUT", help="a new folder")
    purpose: Purpose = option(
        "--purpose",
        choices=("train", "evaluate", "product"),
        default="train",
        help="train: research; evaluate: held-out images and real pairs; product: training for "
        "commercial use; default: %(default)s",
    )
    licence: str | None = option(
        "--license",
        "--licence",
        metavar="TEXT",
        default=None,
        help="what its makers granted you, or the license of your own folder",
    )
    depth: Path | None = option(
        "--depth",
        type=Path,
        metavar="auto",
        default=None,
        help="auto: predict depth where the set has none",
    )
    depth_model: str | None = option("--depth-model", **DEPTH_MODEL)
    depth_kind: Literal["disparity", "depth"] | None = option(
        "--depth-kind",
        choices=("disparity", "depth"),
        default=None,
        help="of a folder's own maps: larger is nearer, or farther",
    )
    depth_unit: str = option(
        "--depth-unit",
        choices=sorted({unit for units in DEPTH_UNITS.values() for unit in units}),
        default="relative",
        help="of a folder's own maps; default: %(default)s",
    )
    samples_per_shard: int = option(
        "--samples-per-shard", type=int, default=256, help="default: %(default)s"
    )

    def __post_init__(self) -> None:
        if self.depth not in (None, AUTO):
            raise UserError("--depth: a data set brings its own maps; give auto or leave it out.")
        if self.samples_per_shard < 1:
            raise UserError("--samples-per-shard: at least 1 is needed.")


def data_set(name: str) -> DataSet:
    return import_module(f"dofsuite.data.importers.{name}").DATA_SET


def import_data_set(
    config: ImportConfig,
    load_depth_model: Callable[[], PredictDisparity],
    say: Callable[[str], None],
) -> None:
    """Import a copy of a data set.

    Args:
        config: Which, and what for.
        load_depth_model: Of `--depth auto`; called once all else was checked.
        say: Is told the license first, then what is written.

    Raises:
        UserError: The license does not grant the purpose, the folder is no copy of the data set,
            files are bad (up to five are named), or the output exists.
    """
    # The license, before the first byte
    chosen = data_set(config.name)
    licence = granted_licence(chosen, config)
    say(f"{chosen.title}: license: {licence} ({chosen.source})")
    if config.output.exists():
        raise UserError(f"{config.output}: it exists already: remove it or choose another folder.")
    if not config.folder.is_dir():
        raise UserError(f"{config.folder}: there is no such folder; nothing is downloaded here.")

    # What is there
    found = chosen.find(config.folder)
    check_faults(found.faults)
    check_splits(found)
    for reason, count in found.left_out.items():
        if count:
            say(f"left out: {count} {reason}")

    # What the purpose needs, all or nothing
    shards = photographs_for(found, config.purpose)
    pairs = [each for each in found.pairs if each.split in held_out(found)]
    pairs = pairs if config.purpose == "evaluate" else []
    if not pairs and not any(shards.values()):
        raise UserError(f"{config.folder}: it has nothing for --purpose {config.purpose}.")
    predict = load_depth_model() if config.depth == AUTO else None
    with new_folder(config.output) as temporary:
        for split, photographs in shards.items():
            if photographs:
                say(write_split(temporary, split, photographs, chosen, config, licence, predict))
        if pairs:
            write_pairs(temporary / "pairs", pairs, chosen, licence)
            scenes = len({pair.scene for pair in pairs})
            say(f"{config.output / 'pairs'}: {len(pairs)} pairs of {scenes} scenes")


def granted_licence(chosen: DataSet, config: ImportConfig) -> str:
    """Return the license under which the images are used.

    Raises:
        UserError: It forbids the purpose, or none is stated and none was given.
    """
    # What the user was granted counts
    if config.licence is not None:
        if config.purpose == "product" and NON_COMMERCIAL.search(config.licence):
            raise UserError(f"--purpose product: {config.licence} allows no commercial use.")
        return config.licence
    # What is stated, by the data set or on its card
    licence = chosen.licence
    if config.name == "hugging_face":
        licence = licence_of_card(config.folder) or NOT_STATED
    if licence == NOT_STATED:
        raise UserError(
            f"{config.name}: no license is stated; say with --license under which you use them."
        )
    # What it does not grant
    reason = chosen.refuses.get(config.purpose)
    if config.purpose == "product" and NON_COMMERCIAL.search(licence):
        reason = reason or "NC allows no commercial use"
    if reason:
        raise UserError(
            f"{config.name}: --purpose {config.purpose}: refused, because {reason} (license: "
            f"{licence}); if its makers granted you more, say it with --license."
        )
    return licence


def check_faults(faults: Sequence[str]) -> None:
    if faults:
        more = f"; and {len(faults) - NAMED_FAULTS} more" if len(faults) > NAMED_FAULTS else ""
        raise UserError(f"{'; '.join(faults[:NAMED_FAULTS])}{more}: nothing was written.")


def check_splits(found: Found) -> None:
    """Check that no scene is on both sides of a split.

    Raises:
        UserError: One is.
    """
    side: dict[str, Split] = {}
    scenes = [
        (str(each.facts.get("scene", each.pair.stem)), each.split) for each in found.photographs
    ]
    for scene, split in [*scenes, *((pair.scene, pair.split) for pair in found.pairs)]:
        if side.setdefault(scene, split) != split:
            raise UserError(f"{scene}: it is in {side[scene]} and in {split}; remove one.")


def held_out(found: Found) -> tuple[Split, ...]:
    # The test split, or where there is none the validation split
    splits = {each.split for each in found.photographs}
    return next(((split,) for split in HELD_OUT if split in splits), ())


def photographs_for(found: Found, purpose: Purpose) -> dict[Split, list[Photograph]]:
    wanted = held_out(found) if purpose == "evaluate" else ("train", "val")
    return {split: [each for each in found.photographs if each.split == split] for split in wanted}


def write_split(
    folder: Path,
    split: Split,
    photographs: Sequence[Photograph],
    chosen: DataSet,
    config: ImportConfig,
    licence: str,
    predict: PredictDisparity | None,
) -> str:
    """Pack one split, and return a line about it."""
    # Depth of the set's own, or predicted for images without
    has_depth = any(each.pair.depth for each in photographs)
    if has_depth and predict is not None:
        raise UserError("--depth auto: the data set has depth maps; leave the option out.")
    kind = chosen.depth_kind or config.depth_kind
    if has_depth and kind is None:
        raise UserError(
            f"{photographs[0].pair.depth}: say with --depth-kind what the depth maps hold: "
            "disparity (larger is nearer) or depth (larger is farther)."
        )
    by_stem = {each.pair.stem: each for each in photographs}

    def camera(pair: Pair, data: bytes) -> CameraExif:
        return by_stem[pair.stem].camera or exif_of_photograph(data)

    # As `data pack` does
    packing = PackConfig(
        folder=config.folder,
        output=folder / split,
        depth=AUTO if predict is not None else None,
        depth_model=config.depth_model,
        depth_kind=kind if has_depth else None,
        depth_unit=config.depth_unit if chosen.depth_kind is None else chosen.depth_unit,
        source=chosen.name if chosen.name != "folder" else None,
        licence=licence,
        split=split,
        samples_per_shard=config.samples_per_shard,
    )
    manifest = pack_pairs(
        Listing([each.pair for each in photographs], [], []),
        packing,
        predict,
        PairReader(chosen.image, chosen.depth, camera, lambda pair: by_stem[pair.stem].facts),
        terms_of(chosen, licence, config.purpose),
    )
    return (
        f"{config.output / split}: {manifest.samples} images, {manifest.samples_with_depth} of "
        f"them with depth, {manifest.samples_with_caption} with a caption"
    )


def terms_of(chosen: DataSet, licence: str, purpose: Purpose) -> dict[str, str]:
    return {
        "data_set": chosen.title,
        "published": chosen.source,
        "licence": licence,
        "imported_for": purpose,
    }
