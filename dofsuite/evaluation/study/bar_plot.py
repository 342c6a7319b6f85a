"""Figure A6 as SVG: the rate at which our method was preferred to each baseline, with intervals."""

import html
from collections.abc import Sequence

from dofsuite.evaluation.study.analysis import Preference

# Columns: names, bars, numbers
LABEL_PX = 260
PLOT_PX = 560
VALUE_PX = 190
ROW_PX = 40
BAR_PX = 22
TOP_PX, BOTTOM_PX = 30, 46
BAR, PAPER = "#4f7fd0", "#b5482f"
MUTED, TEXT = "#8a8a8a", "#1b1b1b"
MAX_CHARACTERS = 34


def preference_bars(lines: Sequence[Preference], ours: str, paper_rate: float) -> str:
    """Return an SVG element: a bar a baseline, its Wilson interval, chance and the paper's rate."""
    width, bottom = LABEL_PX + PLOT_PX + VALUE_PX, TOP_PX + ROW_PX * len(lines)
    title = f"Share of votes for {ours}, with 95 % intervals"
    parts = [
        f"<svg viewBox='0 0 {width} {bottom + BOTTOM_PX}' width='{width}' role='img' "
        "style='max-width:100%;height:auto' font-family='system-ui, sans-serif' font-size='14'>",
        f"<title>{html.escape(title)}</title>",
    ]
    # Scale, with chance and the paper's figure marked
    for percent in range(0, 101, 25):
        x = at(percent / 100)
        parts.append(vertical(x, bottom, "#dddddd", ""))
        parts.append(text(x, bottom + 18, f"{percent} %", "middle", MUTED))
    parts.append(vertical(at(0.5), bottom, MUTED, "4 3"))
    parts.append(text(at(0.5), TOP_PX - 8, "chance", "middle", MUTED))
    parts.append(vertical(at(paper_rate), bottom, PAPER, "4 3"))
    note = f"paper: at least {paper_rate:.0%}"
    parts.append(text(at(paper_rate), TOP_PX - 8, note, "middle", PAPER))

    # Bars
    for index, line in enumerate(lines):
        parts += bar(line, TOP_PX + ROW_PX * index + ROW_PX // 2)
    parts.append(text(at(0.5), bottom + 38, title, "middle", TEXT))
    return "\n".join([*parts, "</svg>"])


def at(rate: float) -> float:
    return LABEL_PX + PLOT_PX * rate


def bar(line: Preference, y: int) -> list[str]:
    name = line.baseline
    short = name if len(name) <= MAX_CHARACTERS else f"{name[: MAX_CHARACTERS - 1]}…"
    parts = [text(LABEL_PX - 10, y + 5, f"over {short}", "end", TEXT)]
    if line.rate is None or line.wilson is None:
        return [*parts, text(LABEL_PX + 8, y + 5, "no votes", "start", MUTED)]
    low, high = line.wilson
    # Bar, interval with ends, and the numbers
    parts.append(
        f"<rect x='{LABEL_PX}' y='{y - BAR_PX / 2}' width='{PLOT_PX * line.rate:.1f}' "
        f"height='{BAR_PX}' fill='{BAR}'/>"
    )
    parts.append(
        f"<path d='M{at(low):.1f} {y}H{at(high):.1f}M{at(low):.1f} {y - 6}v12M{at(high):.1f} "
        f"{y - 6}v12' stroke='{TEXT}' stroke-width='1.5' fill='none'/>"
    )
    numbers = f"{line.rate:.0%} [{low:.0%}, {high:.0%}], n {line.votes}"
    return [*parts, text(LABEL_PX + PLOT_PX + 12, y + 5, numbers, "start", TEXT)]


def vertical(x: float, bottom: int, color: str, dashes: str) -> str:
    return (
        f"<path d='M{x:.1f} {TOP_PX}V{bottom}' stroke='{color}' stroke-dasharray='{dashes}' "
        "fill='none'/>"
    )


def text(x: float | int, y: float | int, words: str, anchor: str, color: str) -> str:
    return (
        f"<text x='{x:.1f}' y='{y}' text-anchor='{anchor}' fill='{color}'>"
        f"{html.escape(words)}</text>"
    )
