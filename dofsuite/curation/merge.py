"""The merge: all verdicts in; duplicates out, scenes into splits, and a plan of the output shards.

It holds only the images that every rule kept, a few hundred bytes each. The plan is a file an
output set, a line an output shard: the input shard and row of each sample, in the inputs' order.
"""

import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from dofsuite.curation.merge_settings import MergeSettings
from dofsuite.curation.rules import Facts, Thresholds, set_of
from dofsuite.curation.scenes import Candidate, best_of_copies, scenes_of
from dofsuite.curation.settings import Curation, fingerprint
from dofsuite.curation.verdicts import read_verdicts
from dofsuite.data.manifest import sha256_of
from dofsuite.data.packing.sample import slug
from dofsuite.errors import UserError
from dofsuite.files import read_bytes, write_json, write_text

PLAN_FILE = "plan.json"
SPLITS = ("train", "val", "test")
KEEP, DROP = "keep", "drop"


class Rejection(NamedTuple):
    """An image that the merge left out."""

    name: str
    set: str
    rule: str
    reason: str


class Merged(NamedTuple):
    """What a merge found."""

    rejections: list[Rejection]
    # By set and split, `deep/train`.
    samples: dict[str, list[Candidate]]


def merge(curation: Curation, settings: MergeSettings) -> dict[str, Any]:
    """Merge all verdicts and write the plan; what is there already stays where it is the same.

    Returns:
        What `plan.json` holds.

    Raises:
        UserError: Verdicts are missing or damaged, nothing is left, or shards of another plan lie
            in the folder.
    """
    # All verdicts, each checked against its own count and checksum
    candidates, counts, digests = read_candidates(curation)
    plan_id = fingerprint({"settings": asdict(settings), "verdicts": digests})
    stored = read_plan(curation.folder)
    if stored is not None and stored["plan"] == plan_id:
        return stored
    if any((curation.folder / "done").glob("*.json")):
        raise UserError(
            f"{curation.folder}: shards of another plan (other options of the merge) lie in it: "
            "remove its folders done and of the shards, or choose another folder."
        )

    # Rejections, splits, shards
    decisions = read_decisions(Path(settings.decisions)) if settings.decisions else {}
    thresholds = curation.settings.thresholds
    merged = plan_samples(candidates, thresholds, settings, decisions)
    images = sum(counts.values())
    left_out = Counter(f"{each.set}/{each.rule}" for each in merged.rejections)
    if not merged.samples:
        raise UserError(f"{curation.folder}: no image of {images} is left: {most(counts)}.")
    sets = {
        name: write_plan(curation.folder, name, samples, settings.samples_per_shard)
        for name, samples in merged.samples.items()
    }
    plan = {
        "plan": plan_id,
        "settings": asdict(settings),
        "images": images,
        "counts": dict(sorted(counts.items())),
        "merge_counts": dict(sorted(left_out.items())),
        "sets": sets,
    }
    lines = [json.dumps(rejection._asdict()) + "\n" for rejection in merged.rejections]
    write_text(curation.folder / "plan" / "rejections.jsonl", "".join(lines))
    write_json(curation.folder / PLAN_FILE, plan)
    return plan


def most(counts: dict[str, int]) -> str:
    """Say which rules rejected most."""
    rules: Counter[str] = Counter()
    for key, count in counts.items():
        rules[key.partition("/")[2]] += count
    return ", ".join(f"{count} by {rule}" for rule, count in rules.most_common(4))


def read_plan(folder: Path) -> dict[str, Any] | None:
    path = folder / PLAN_FILE
    return dict(json.loads(path.read_bytes())) if path.is_file() else None


def read_candidates(
    curation: Curation,
) -> tuple[list[Candidate], dict[str, int], list[str]]:
    """Read all verdicts: what is left, counts by `set/rule`, and the files' checksums."""
    candidates: list[Candidate] = []
    counts: Counter[str] = Counter()
    digests = []
    for number in range(curation.input_count):
        rows, digest = read_verdicts(curation, number)
        digests.append(digest)
        for position, row in enumerate(rows):
            name = set_name(row, curation)
            counts[f"{name}/{row.get('rejected_by', 'kept')}"] += 1
            if "rejected_by" not in row:
                candidates.append(_candidate(number, position, row, name))
    return candidates, dict(counts), digests


def set_name(row: Facts, curation: Curation) -> str:
    """The set that an image belongs or would belong to: Deep or Shallow; for refocus its source."""
    if curation.settings.purpose == "refocus":
        return slug(str(row["source"]))
    return set_of(row, curation.settings.thresholds) or "neither"


def _candidate(number: int, position: int, row: Facts, name: str) -> Candidate:
    camera = [str(row.get(key, "")) for key in ("source", "make", "model", "serial")]
    return Candidate(
        input_shard=number,
        row=position,
        name=row["name"],
        set=name,
        sha256=row["sha256"],
        phash=int(row["phash"], 16),
        pixels=row["width"] * row["height"],
        bytes=row["bytes"],
        camera="|".join(camera) if any(camera[1:]) else "",
        taken_s=row.get("taken_s"),
        scene=row.get("scene"),
    )


def plan_samples(
    candidates: Sequence[Candidate],
    thresholds: Thresholds,
    settings: MergeSettings,
    decisions: dict[str, str],
) -> Merged:
    """Leave out dropped images and duplicates, split by scene, and balance."""
    rejections: list[Rejection] = []

    # The manual pass
    left = []
    for candidate in candidates:
        if decisions.get(candidate.name, KEEP) == DROP:
            rejections.append(Rejection(candidate.name, candidate.set, "manual", "dropped"))
        else:
            left.append(candidate)

    # One image of the copies of a photograph
    best = best_of_copies(left, int(thresholds.duplicate_bits))
    kept = [candidate for candidate, name in zip(left, best, strict=True) if candidate.name == name]
    rejections += [
        Rejection(candidate.name, candidate.set, "duplicate", f"of {name}")
        for candidate, name in zip(left, best, strict=True)
        if candidate.name != name
    ]

    # Splits by scene, then sets of one size
    splits = split_of_scenes(scenes_of(kept, thresholds), settings)
    samples: dict[str, list[Candidate]] = defaultdict(list)
    for candidate, split in zip(kept, splits, strict=True):
        samples[f"{candidate.set}/{split}"].append(candidate)
    if settings.balance:
        rejections += balance(samples)
    return Merged(rejections, dict(sorted(samples.items())))


def split_of_scenes(scenes: Sequence[str], settings: MergeSettings) -> list[str]:
    """Return each image's split: whole scenes, in an order by hash, until a split has its share."""
    sizes = Counter(scenes)
    wanted = {"test": settings.test_share, "val": settings.val_share}
    splits: dict[str, str] = {}
    remaining = iter(sorted(sizes, key=lambda scene: digest_of(f"split {scene}")))
    for split, share in wanted.items():
        count = 0
        while count < share * len(scenes):
            scene = next(remaining)
            splits[scene] = split
            count += sizes[scene]
    return [splits.get(scene, "train") for scene in scenes]


def balance(samples: dict[str, list[Candidate]]) -> list[Rejection]:
    """Cut the sets of each split to the size of the smallest, in an order by hash."""
    rejections = []
    for split in SPLITS:
        names = [name for name in samples if name.endswith(f"/{split}")]
        size = min((len(samples[name]) for name in names), default=0)
        for name in names:
            order = sorted(samples[name], key=lambda each: digest_of(f"balance {each.name}"))
            left_out = {candidate.name for candidate in order[size:]}
            rejections += [
                Rejection(each.name, each.set, "balance", f"{size} a set")
                for each in samples[name]
                if each.name in left_out
            ]
            samples[name] = [each for each in samples[name] if each.name not in left_out]
    return rejections


def digest_of(text: str) -> str:
    return sha256_of(text.encode())


def plan_file(folder: Path, name: str) -> Path:
    return folder / "plan" / f"{name.replace('/', '-')}.jsonl"


def write_plan(
    folder: Path, name: str, samples: Sequence[Candidate], samples_per_shard: int
) -> dict[str, int]:
    places = [[candidate.input_shard, candidate.row] for candidate in samples]
    starts = range(0, len(places), samples_per_shard)
    lines = [json.dumps(places[k : k + samples_per_shard]) + "\n" for k in starts]
    write_text(plan_file(folder, name), "".join(lines))
    return {"samples": len(samples), "shards": len(lines)}


def planned(curation: Curation, plan: dict[str, Any]) -> list[Candidate]:
    """Return the images of a plan, by set, in the inputs' order."""
    places = [
        (set_and_split.partition("/")[0], *place)
        for set_and_split in plan["sets"]
        for line in plan_file(curation.folder, set_and_split).read_text().splitlines()
        for place in json.loads(line)
    ]
    # An input shard is read once
    found = []
    rows: dict[int, list[Facts]] = {}
    for name, number, position in sorted(places):
        if number not in rows:
            rows = {number: read_verdicts(curation, number)[0]}
        found.append(_candidate(number, position, rows[number][position], name))
    return found


def read_decisions(path: Path) -> dict[str, str]:
    """Read the manual pass: a CSV with the columns `name` and `decision`, `keep` or `drop`.

    Raises:
        UserError: It cannot be read or says something else.
    """
    text = read_bytes(path, "--decisions").decode("utf-8-sig", errors="replace")
    reader = csv.DictReader(io.StringIO(text))
    if not {"name", "decision"} <= set(reader.fieldnames or ()):
        raise UserError(f"{path}: --decisions: a CSV with the columns name, decision is expected.")
    decisions = {}
    for number, row in enumerate(reader, 2):
        decision = (row["decision"] or "").strip().lower()
        if decision not in (KEEP, DROP):
            raise UserError(
                f"{path}: --decisions: line {number}: {decision!r} is neither keep nor drop."
            )
        decisions[row["name"]] = decision
    return decisions
