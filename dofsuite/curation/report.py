"""The report of a curation: one HTML page that loads nothing, and the same counts as JSON."""

import html
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from dofsuite.curation.inputs import Reader
from dofsuite.curation.rules import DEEP, MERGE_RULES, SHALLOW
from dofsuite.curation.settings import Curation
from dofsuite.curation.tally import HISTOGRAMS, KEPT, Draw, Tally, percent, tally
from dofsuite.curation.verdicts import reduced, to_tensor
from dofsuite.curation.write import described
from dofsuite.errors import UserError
from dofsuite.evaluation.report import HEAD, data_uri, format_fact, html_row
from dofsuite.files import write_json, write_text
from dofsuite.images import load_upright, thumbnail

THUMB_PX, SAMPLE_PX = 88, 150
# A report shows some 350.
SMALL_IMAGES = 1024
COLORS = ("#2f6fb3", "#d9822b", "#5a9e4b", "#8a63b0")
LEFT_OUT_COLOR = "#b9b9b9"
STYLE = """<style>
.thumbs { display: flex; flex-wrap: wrap; gap: 6px }
.thumbs figure { margin: 0; font-size: 11px; color: #666; max-width: 150px; overflow: hidden }
.thumbs img { min-width: 0; height: auto; image-rendering: auto }
table.bins td { text-align: left; vertical-align: middle }
.bar { display: flex; align-items: center; gap: 5px; font-size: 12px; white-space: nowrap }
.bar i { display: inline-block; height: 11px }
.key i { display: inline-block; width: 11px; height: 11px; margin: 0 4px 0 14px }
.sets { display: grid; grid-template-columns: 1fr 1fr; gap: 2rem }
td.words, th.words { text-align: left }
</style>"""


def write_curation_report(curation: Curation, plan: dict[str, Any]) -> Path:
    """Write `report.html` and `report.json` into the curation's folder; return the page's path.

    Raises:
        UserError: The folder cannot be written.
    """
    counted = tally(curation)
    groups = sorted({group for group, _ in counted.counts}, key=_set_order)
    facts = described(curation, plan)
    rules = [(rule.name, facts["rules"][rule.name]) for rule in curation.settings.rules]
    rules += [(name, keeps) for name, keeps in MERGE_RULES.items()]

    # The page
    total = sum(counted.counts.values())
    kept = {group: counted.counts[group, KEPT] for group in groups if counted.counts[group, KEPT]}
    title = f"Curation for {curation.settings.purpose}: {total:,} images"
    parts = [HEAD.format(title=html.escape(title)), STYLE, f"<h1>{html.escape(title)}</h1>"]
    parts.append(f"<p>{html.escape(summary(kept, total, plan))}</p>")
    parts += rule_table(counted, groups, rules, total)
    read_in_order(curation, counted)
    parts += sample_sheets(curation, counted, list(kept))
    parts += histograms(curation, counted, list(kept))
    parts += rejected_sheets(curation, counted, [name for name, _ in rules])
    parts += ["<h2>Settings</h2><table class='facts'>"]
    parts += [html_row("td", [name, format_fact(value)]) for name, value in facts.items()]
    path = curation.folder / "report.html"
    write_text(path, "\n".join([*parts, "</table></body></html>", ""]))

    # The same numbers
    counts = {f"{group}/{rule}": n for (group, rule), n in sorted(counted.counts.items())}
    data = {"images": total, "counts": counts, "sets": plan["sets"], "facts": facts}
    write_json(curation.folder / "report.json", {**data, "reasons": _plain(counted.reasons)})
    return path


def _plain(reasons: dict[str, Any]) -> dict[str, dict[str, int]]:
    return {rule: dict(counter.most_common(20)) for rule, counter in sorted(reasons.items())}


def _set_order(group: str) -> tuple[int, str]:
    return ({DEEP: 0, SHALLOW: 1, "neither": 3}.get(group, 2), group)


def summary(kept: dict[str, int], total: int, plan: dict[str, Any]) -> str:
    """Say what came out, in two sentences."""
    names = {DEEP: "Deep", SHALLOW: "Shallow"}
    sets = ", ".join(
        f"{count:,} {names.get(group, group)} ({percent(count, total)})"
        for group, count in kept.items()
    )
    splits = ", ".join(f"{each['samples']:,} in {name}" for name, each in plan["sets"].items())
    return (
        f"Kept: {sets}. Splits, which share no scene: {splits}. Each image that is not kept is "
        "counted once, under the first rule that rejected it, in the order of the table."
    )


def rule_table(
    counted: Tally, groups: Sequence[str], rules: Sequence[tuple[str, str]], total: int
) -> list[str]:
    """A row a rule: what it keeps, images it rejected, by set and together, what is left after."""
    names = {DEEP: "Deep", SHALLOW: "Shallow", "neither": "no set"}
    heads = [names.get(group, group) for group in groups]
    parts = ["<h2>Rejected, rule by rule</h2><table>"]
    cells = "".join(f"<th>{html.escape(head)}</th>" for head in [*heads, "rejected", "left"])
    words = "<th class='words'>{}</th>".format
    parts.append(f"<tr><th>rule</th>{words('keeps')}{cells}{words('most frequent')}</tr>")
    # Rules in their order
    left = total
    for rule, keeps in rules:
        numbers = [counted.counts[group, rule] for group in groups]
        left -= sum(numbers)
        reasons = counted.reasons.get(rule)
        texts = [f"{reason} ({n:,})" for reason, n in (reasons.most_common(3) if reasons else [])]
        cells = "".join(f"<td>{number:,}</td>" for number in [*numbers, sum(numbers), left])
        parts.append(
            f"<tr><td>{html.escape(rule)}</td><td class='words'>{html.escape(keeps)}</td>{cells}"
            f"<td class='words'>{html.escape('; '.join(texts))}</td></tr>"
        )
    kept = "".join(f"<td>{counted.counts[group, KEPT]:,}</td>" for group in groups)
    parts.append(f"<tr><td>kept</td><td></td>{kept}<td></td><td>{left:,}</td><td></td></tr>")
    captions = ", ".join(f"{name} {n:,}" for name, n in sorted(counted.captions.items()))
    return [*parts, "</table>", f"<p>Captions of kept images: {html.escape(captions)}.</p>"]


def sample_sheets(curation: Curation, counted: Tally, groups: Sequence[str]) -> list[str]:
    """The sets side by side, as the supplement's Figure A4."""
    names = {DEEP: "Deep DoF", SHALLOW: "Shallow DoF"}
    parts = ["<h2>Samples, drawn evenly from what is kept</h2><div class='sets'>"]
    for group in groups:
        parts.append(f"<div><h3>{html.escape(names.get(group, group))}</h3>")
        parts += [thumbs(curation, counted.of_set[group], SAMPLE_PX), "</div>"]
    return [*parts, "</div>"]


def histograms(curation: Curation, counted: Tally, groups: Sequence[str]) -> list[str]:
    """A table a quantity, a row a bin: its range, a bar a set, and some of its images."""
    colors = dict(zip(groups, COLORS, strict=False)) | {"left out": LEFT_OUT_COLOR}
    parts = []
    # Each quantity that any image has
    for name, histogram in HISTOGRAMS.items():
        bins = counted.bins.get(name)
        if not bins:
            continue
        shown = [group for group in colors if any(each == group for _, each in bins)]
        keys = "".join(
            f"<i style='background:{colors[each]}'></i>{html.escape(each)}" for each in shown
        )
        parts.append(f"<h2>{html.escape(histogram.title)}</h2><p class='key'>{keys}</p>")
        parts.append("<table class='bins'>")
        numbers = [number for number, _ in bins]
        for number in range(min(numbers), max(numbers) + 1):
            counts = {group: bins[number, group] for group in shown}
            bars = [_bar(counts[group], max(bins.values()), colors[group]) for group in shown]
            images = thumbs(curation, counted.of_bin[name, number], THUMB_PX)
            label = _range(histogram.edges, number, histogram.unit)
            cells = f"<td>{label}</td><td>{''.join(bars)}</td><td>{images}</td>"
            parts.append(f"<tr>{cells}</tr>")
        parts.append("</table>")
    return parts


def _range(edges: tuple[float, ...], number: int, unit: str) -> str:
    low = _labelled(edges[number], unit)
    if number + 1 == len(edges):
        return f"from {low}"
    high = _labelled(edges[number + 1], unit)
    return f"below {high}" if edges[number] == 0 else f"{low} to {high}"


def _labelled(edge: float, unit: str) -> str:
    if unit == "s":  # exposures as photographers write them
        return f"1/{1 / edge:.0f} s" if 0 < edge < 0.09 else f"{edge:.1g} s"
    return html.escape(unit.format(low=edge))


def _bar(count: int, most: int, color: str) -> str:
    width = round(260 * count / most)
    return f"<div class='bar'><i style='width:{width}px;background:{color}'></i>{count:,}</div>"


def rejected_sheets(curation: Curation, counted: Tally, rules: Sequence[str]) -> list[str]:
    """Some of the images that each rule rejected, with the reasons."""
    parts = ["<h2>Some of what was rejected</h2>"]
    for rule in rules:
        if rule in counted.of_rule:
            parts.append(f"<h3>{html.escape(rule)}</h3>")
            parts.append(thumbs(curation, counted.of_rule[rule], THUMB_PX))
    return parts


def thumbs(curation: Curation, draw: Draw, size_px: int) -> str:
    """A row of small images with captions; one that cannot be decoded is its caption alone."""
    figures = []
    for place in draw.places:
        caption = html.escape(place.caption[:60])
        found = small_image(curation, place.input_shard, place.row, size_px)
        image = f"<img alt='{caption}' src='{found}'>" if found else ""
        figures.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    return f"<div class='thumbs'>{''.join(figures)}</div>"


def read_in_order(curation: Curation, counted: Tally) -> None:
    """Make the small images input shard by input shard: a tar at an address is copied once."""
    shown = [(draw, SAMPLE_PX) for draw in counted.of_set.values()]
    shown += [(draw, THUMB_PX) for draw in [*counted.of_bin.values(), *counted.of_rule.values()]]
    drawn = [(place, size_px) for draw, size_px in shown for place in draw.places]
    for place, size_px in sorted(drawn, key=lambda each: each[0][1:3]):
        small_image(curation, place.input_shard, place.row, size_px)


@lru_cache(SMALL_IMAGES)
def small_image(curation: Curation, input_shard: int, row: int, size_px: int) -> str | None:
    """Return an image as a data URI; None where it cannot be decoded."""
    reader = _reader(curation, input_shard)
    # A damaged tar has a row, but is no image
    if row >= len(reader.entries):
        return None
    entry = reader.entries[row]
    try:
        image = reduced(load_upright(reader.read(entry), entry.name))
    except UserError:
        return None
    return data_uri(thumbnail(to_tensor(image), size_px), "JPEG")


def close_inputs() -> None:
    """Let go of the input shards that small images were made of."""
    _reader.cache_clear()


# A tar's members are listed once.
@lru_cache(maxsize=32)
def _reader(curation: Curation, input_shard: int) -> Reader:
    return curation.reader(input_shard, release=_reader.cache_clear)
