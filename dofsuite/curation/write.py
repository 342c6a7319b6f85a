"""The writing: a map over output shards, each from the samples that the plan gives it.

A shard, its index and its record in `done/` appear in this order, each whole: a shard without its
record is written again, to the same bytes. Whoever finds all records there checks them against the
plan and writes the manifests, last of all.
"""

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.curation.inputs import Entry, Reader
from dofsuite.curation.merge import PLAN_FILE, plan_file, read_plan
from dofsuite.curation.rules import Facts
from dofsuite.curation.settings import Curation
from dofsuite.curation.verdicts import read_verdicts
from dofsuite.data.decode import DECODERS, disparity_from_depth_map
from dofsuite.data.manifest import MANIFEST_FILE, Manifest, ShardEntry, check_sha256, sha256_of
from dofsuite.data.packing.sample import PredictDisparity, exif_record, predicted_depth, sample_key
from dofsuite.data.shards import ShardWriter
from dofsuite.errors import UserError
from dofsuite.exif import CameraExif
from dofsuite.files import clear_leftovers, make_folder, temp_sibling, write_json
from dofsuite.images import decode_image

COUNTS = ("samples_with_depth", "samples_with_caption", "samples_with_exif")
# Input shards kept open while an output shard is written.
OPEN_INPUTS = 4


class OutputShard(NamedTuple):
    """A set and split (`deep/train`) and the shard's number in it."""

    set: str
    number: int

    def file(self, folder: Path, extension: str) -> Path:
        return folder / self.set / f"shard-{self.number:06d}.{extension}"

    def record(self, folder: Path) -> Path:
        return folder / "done" / f"{self.set.replace('/', '-')}-{self.number:06d}.json"


def output_shards(folder: Path) -> list[OutputShard]:
    """List the output shards of a plan.

    Raises:
        UserError: There is none yet.
    """
    plan = read_plan(folder)
    if plan is None:
        raise UserError(f"{folder / PLAN_FILE}: there is no plan yet; run --stage merge first.")
    return [
        OutputShard(name, number)
        for name, counts in plan["sets"].items()
        for number in range(counts["shards"])
    ]


class Writer:
    """Writes output shards in one process."""

    def __init__(
        self, curation: Curation, load_depth: Callable[[str | None], PredictDisparity]
    ) -> None:
        plan = read_plan(curation.folder)
        assert plan is not None
        self.curation, self.settings = curation, plan["settings"]
        self.shards = output_shards(curation.folder)
        self.is_refocus = curation.settings.purpose == "refocus"
        self._load_depth = load_depth
        self._predict: PredictDisparity | None = None
        self._input = lru_cache(OPEN_INPUTS)(self._open)
        self._plan_lines = lru_cache(1)(self._read_plan)

    def _read_plan(self, name: str) -> list[str]:
        return plan_file(self.curation.folder, name).read_text().splitlines()

    def _open(self, number: int) -> tuple[Reader, list[Facts]]:
        rows, _ = read_verdicts(self.curation, number)
        return self.curation.reader(number, release=self._input.cache_clear), rows

    def __call__(self, item: int) -> None:
        """Write output shard `item` unless its record says that it is there."""
        shard, folder = self.shards[item], self.curation.folder
        if shard.record(folder).is_file():
            return
        places = json.loads(self._plan_lines(shard.set)[shard.number])

        # A folder of one shard first
        path = shard.file(folder, "tar")
        clear_leftovers(path)
        temporary = make_folder(temp_sibling(path, "tmp"))
        try:
            first = shard.number * self.settings["samples_per_shard"]
            with ShardWriter(temporary, len(places)) as writer:
                for place, (number, position) in enumerate(places):
                    reader, rows = self._input(number)
                    row = rows[position]
                    entry = Entry(row["name"], row["image"], row["files"])
                    members = self.members(reader, entry, row)
                    writer.add(sample_key(first + place, Path(entry.name).stem), members)
            (written,) = writer.entries
            for extension in ("index.json", "tar"):
                (temporary / f"{written.name}.{extension}").replace(shard.file(folder, extension))
        finally:
            shutil.rmtree(temporary, ignore_errors=True)

        # Its record, for the manifest
        counts = {key: getattr(writer, key) for key in COUNTS}
        write_json(shard.record(folder), {**asdict(replace(written, name=path.stem)), **counts})

    def members(self, reader: Reader, entry: Entry, row: Facts) -> dict[str, bytes]:
        """Return a sample's files: the image byte for byte, its caption, its depth, its record."""
        data = reader.read(entry)
        check_sha256(f"{reader.shard.path}: {entry.name}", sha256_of(data), row["sha256"])
        members = {entry.image: data}
        if "txt" in entry.files:
            members["txt"] = reader.read(entry, "txt")
        record: dict[str, Any] = {
            "source": row["source"],
            "licence": row.get("licence", self.settings["licence"]),
            "file": entry.name,
        }
        if "caption" in row and "txt" not in members:
            record |= {"caption": row["caption"], "caption_by": row.get("caption_by", "given")}
        if row.get("has_exif") and "no_optics" not in row:
            keys = ("f_number", "focal_length_mm", "sensor_width_mm")
            record["exif"] = exif_record(CameraExif(*(row[key] for key in keys)))

        # Depth, which refocus alone needs
        if self.is_refocus:
            depth, record["depth"] = self.depth(reader, entry, data)
            members |= depth
        return {**members, "json": json.dumps(record).encode()}

    def depth(
        self, reader: Reader, entry: Entry, data: bytes
    ) -> tuple[dict[str, bytes], dict[str, Any]]:
        """Return the depth map that is there, or else a predicted one, and the record of it."""
        image_srgb = decode_image(data, entry.name)
        extension = next((each for each in entry.files if each.startswith("depth.")), None)
        if extension is None:
            if self._predict is None:
                self._predict = self._load_depth(self.settings["depth_model"])
            png, record = predicted_depth(self._predict, image_srgb, self.settings["depth_model"])
            return {"depth.png": png}, record

        # A map that is given
        kind = self.settings["depth_kind"]
        if kind != "disparity":
            raise UserError(
                f"{entry.name}: it has a depth map; say with --depth-kind disparity that larger is "
                "nearer, as in the maps that are predicted, or move the maps away."
            )
        depth_bytes = reader.read(entry, extension)
        depth_map = DECODERS[extension](depth_bytes, entry.name)
        disparity_from_depth_map(depth_map, kind, image_srgb.shape[:2], entry.name)
        return {extension: depth_bytes}, {"kind": kind, "unit": "relative"}


def write_manifests(curation: Curation) -> list[Path]:
    """Write the manifests if every shard is there, and return them; none while some are missing.

    Raises:
        UserError: Records and plan do not agree, or a shard was changed.
    """
    # All records
    folder, plan = curation.folder, read_plan(curation.folder)
    assert plan is not None
    shards = output_shards(folder)
    if not all(shard.record(folder).is_file() for shard in shards):
        return []
    records = {shard: json.loads(shard.record(folder).read_bytes()) for shard in shards}

    # A manifest a set, its counts the plan's
    paths = []
    for name, counts in plan["sets"].items():
        mine = [records[shard] for shard in shards if shard.set == name]
        entries = [
            ShardEntry(**{key: value for key, value in each.items() if key not in COUNTS})
            for each in mine
        ]
        for entry in entries:
            _check_there(folder / name, entry)
        if sum(entry.samples for entry in entries) != counts["samples"]:
            raise UserError(f"{folder / name}: its shards hold not what was planned: begin anew.")
        totals = {key: sum(each[key] for each in mine) for key in COUNTS}
        manifest = Manifest(
            source=name.partition("/")[0],
            licence=plan["settings"]["licence"],
            split=name.partition("/")[2],
            depth_kind="disparity" if totals["samples_with_depth"] else None,
            depth_unit="relative" if totals["samples_with_depth"] else None,
            samples=counts["samples"],
            shards=tuple(entries),
            curation=described(curation, plan),
            **totals,
        )
        paths.append(folder / name / MANIFEST_FILE)
        write_json(paths[-1], asdict(manifest))
    return paths


def _check_there(folder: Path, entry: ShardEntry) -> None:
    tar, index = folder / f"{entry.name}.tar", folder / f"{entry.name}.index.json"
    if not index.is_file() or not tar.is_file() or tar.stat().st_size != entry.bytes:
        raise UserError(f"{tar}: it was changed or removed: remove its record in done, and repeat.")


def described(curation: Curation, plan: dict[str, Any]) -> dict[str, Any]:
    """What the manifest says of the curation: rules with thresholds, networks, counts."""
    settings = curation.settings
    # Rules in words, then what the numbers follow from
    thresholds = asdict(settings.thresholds)
    return {
        "rules": {
            rule.name: f"{rule.keeps.format(**thresholds)} ({rule.mark})" for rule in settings.rules
        },
        "left_out_rules": list(settings.without),
        "thresholds": thresholds,
        "sharpness_by_source": settings.sharpness,
        "networks": settings.networks._asdict(),
        "answers_sha256": settings.answers_sha256,
        "phones_sha256": settings.phones_sha256,
        "images": plan["images"],
        "counts": plan["counts"],
        "merge_counts": plan["merge_counts"],
        "merge": plan["settings"],
    }
