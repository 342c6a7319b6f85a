"""What the report counts: images a rule and a bin, and a few of each to show."""

import json
import math
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, NamedTuple

from dofsuite.curation.merge import digest_of, set_name
from dofsuite.curation.rules import Facts
from dofsuite.curation.settings import Curation
from dofsuite.curation.verdicts import read_verdicts
from dofsuite.exif import FULL_FRAME_WIDTH_MM

KEPT = "kept"
# Their reasons are numbers.
NUMBERED_RULES = ("decodes", "resolution", "sharpness")


class Place(NamedTuple):
    """Where an image lies, and its rank in a draw that depends on its name alone."""

    rank: str
    input_shard: int
    row: int
    caption: str = ""


class Histogram(NamedTuple):
    """A quantity of images: bins from each edge to the next, the last without end."""

    title: str
    edges: tuple[float, ...]
    unit: str


HISTOGRAMS = {
    "f_number": Histogram(
        "Aperture", (0, 1.4, 2, 2.8, 4, 5.6, 8, 10, 11.1, 16, 22, 32), "f/{low:g}"
    ),
    "equivalent_mm": Histogram(
        "Focal length, 35-mm equivalent", (0, 20, 28, 40, 60, 85, 135, 200, 400), "{low:g} mm"
    ),
    "exposure_s": Histogram(
        "Exposure", (0, 1 / 4000, 1 / 1000, 1 / 250, 1 / 60, 1 / 15, 0.1001, 1), "s"
    ),
    "megapixels": Histogram("Resolution", (0, 0.5, 1, 2, 4, 8, 16, 32), "{low:g} Mpx"),
    "sharpness": Histogram(
        "Sharpness: Laplacian variance, every image that was decoded",
        (0, 10, 30, 100, 300, 1000, 3000, 10000),
        "{low:g}",
    ),
}


class Draw:
    """The first few of many images in an order by hash: an even draw, the same every time."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.places: list[Place] = []

    def add(self, place: Place) -> None:
        if len(self.places) < self.most or place.rank < self.places[-1].rank:
            self.places = sorted([*self.places, place])[: self.most]


class Tally:
    """Counts and draws of a curation after its merge."""

    def __init__(self, shown_a_rule: int = 8, shown_a_bin: int = 4, shown_a_set: int = 24) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.reasons: dict[str, Counter[str]] = defaultdict(Counter)
        self.bins: dict[str, Counter[tuple[int, str]]] = defaultdict(Counter)
        self.of_rule: dict[str, Draw] = defaultdict(lambda: Draw(shown_a_rule))
        self.of_bin: dict[tuple[str, int], Draw] = defaultdict(lambda: Draw(shown_a_bin))
        self.of_set: dict[str, Draw] = defaultdict(lambda: Draw(shown_a_set))
        self.sources: Counter[str] = Counter()
        self.captions: Counter[str] = Counter()

    def add(self, place: Place, row: Facts, group: str, rule: str, reason: str) -> None:
        """Count an image of a set (or of what would be it) under the rule that rejected it."""
        self.counts[group, rule] += 1
        self.sources[row["source"]] += 1
        if rule != KEPT:
            self.reasons[rule][_kind_of(rule, reason)] += 1
            self.of_rule[rule].add(place._replace(caption=reason))
        else:
            self.of_set[group].add(place._replace(caption=caption_of(row)))
            self.captions[row.get("caption_by", "none")] += 1
        # Bins: of sharpness all that was decoded, of the others what is kept
        for name, value in quantities(row).items():
            if rule == KEPT or name == "sharpness":
                number = bin_of(value, HISTOGRAMS[name].edges)
                self.bins[name][number, group if rule == KEPT else "left out"] += 1
                self.of_bin[name, number].add(place._replace(caption=f"{value:.3g}"))


def tally(curation: Curation) -> Tally:
    """Count all verdicts and the merge's rejections."""
    # What the merge left out, by name
    path = curation.folder / "plan" / "rejections.jsonl"
    merged = {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}

    # All rows
    result = Tally()
    for number, position, row in all_rows(curation):
        later = merged.get(row["name"], {})
        rule = row.get("rejected_by") or later.get("rule", KEPT)
        rank = digest_of(f"show {row['name']}")
        reason = row.get("reason") or later.get("reason", "")
        group = set_name(row, curation)
        result.add(Place(rank, number, position), row, group, rule, reason)
    return result


def all_rows(curation: Curation) -> Iterator[tuple[int, int, Facts]]:
    """Yield input shard, number and facts of every image."""
    for number in range(curation.input_count):
        for position, row in enumerate(read_verdicts(curation, number)[0]):
            yield number, position, row


def quantities(row: Facts) -> dict[str, float]:
    """The numbers of an image that histograms are of, as far as they are known."""
    found: dict[str, Any] = {key: row.get(key) for key in ("f_number", "exposure_s", "sharpness")}
    if "focal_length_mm" in row and "sensor_width_mm" in row:
        crop = FULL_FRAME_WIDTH_MM / row["sensor_width_mm"]
        found["equivalent_mm"] = row["focal_length_mm"] * crop
    if "width" in row:
        found["megapixels"] = row["width"] * row["height"] / 1e6
    return {key: value for key, value in found.items() if value is not None}


def bin_of(value: float, edges: tuple[float, ...]) -> int:
    """Return the number of the last edge that a value from 0 on reaches.

    >>> [bin_of(value, (0, 1.4, 2)) for value in (0.9, 1.4, 100)]
    [0, 1, 2]
    """
    return sum(value >= edge for edge in edges) - 1


def caption_of(row: Facts) -> str:
    parts = [f"f/{row['f_number']:g}"] if "f_number" in row else []
    if "focal_length_mm" in row:
        parts.append(f"{row['focal_length_mm']:g} mm")
    exposure_s = row.get("exposure_s")
    if exposure_s is not None:
        fast = exposure_s < 0.3
        parts.append(f"1/{1 / exposure_s:.0f} s" if fast else f"{exposure_s:g} s")
    return ", ".join(parts) or f"{row['width']}x{row['height']} px"


# Reasons that differ in a measured number or a name alone are counted together.
def _kind_of(rule: str, reason: str) -> str:
    if rule == "duplicate":
        return "a copy of another"
    if rule in NUMBERED_RULES and any(letter.isdigit() for letter in reason):
        words = reason.split()
        return " ".join(word for word in words if not any(c.isdigit() for c in word)) or "others"
    return reason[:60]


def percent(count: int, total: int) -> str:
    share = 100 * count / total if total else math.nan
    return f"{share:.3g} %"
