"""Plots of a report as inline SVG, without a library or a script: curves with bands, and dots."""

import html
import math
from collections.abc import Sequence
from typing import NamedTuple

# Of the drawing area; the legend is right of it.
WIDTH_PX, HEIGHT_PX = 560, 260
LEFT_PX, TOP_PX = 76, 26
BOTTOM_PX = 44
LEGEND_PX, LEGEND_ROW_PX = 250, 19
LEGEND_CHARACTERS = 32
NUM_TICKS = 4
# By method, in the order of the tables; after Okabe and Ito, apart also for the color-blind.
COLORS = (
    *("#000000", "#8a8a8a", "#e69f00", "#56b4e9", "#009e73"),
    *("#0072b2", "#d55e00", "#cc79a7", "#7a5195", "#a67c00"),
)
DASHES = ("", "7 4", "2 3")
MUTED, TEXT = "#8a8a8a", "#1b1b1b"
WORST = "#b00020"


class Curve(NamedTuple):
    """A line of a plot; None where there is no value."""

    name: str
    y: Sequence[float | None]
    # 95 % intervals, drawn as a band.
    band: Sequence[tuple[float, float] | None] = ()


class Mark(NamedTuple):
    """A point of a dot plot that is pointed out, with a page that shows it (or `""`)."""

    name: str
    # Of the first curve's values.
    item: int
    link: str


class Axis(NamedTuple):
    """A vertical scale."""

    low: float
    high: float
    is_log: bool

    def y(self, value: float | int) -> float:
        """Return the height of a value in px from the top."""
        share = (value - self.low) / (self.high - self.low)
        if self.is_log:
            share = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return TOP_PX + HEIGHT_PX * (1 - share)

    def ticks(self) -> list[float]:
        if not self.is_log:
            step = round_step(self.high - self.low)
            first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
            return [step * k for k in range(first, last + 1)]
        step = (math.log(self.high) - math.log(self.low)) / NUM_TICKS
        return [self.low * math.exp(step * k) for k in range(NUM_TICKS + 1)]


def curve_plot(
    title: str, x_label: str, ticks: Sequence[str], curves: Sequence[Curve], is_log: bool = False
) -> str:
    """Return an SVG element: a line a curve over evenly spaced ticks, bands behind them.

    Args:
        title: Above it.
        x_label: Below it.
        ticks: One a value of every curve.
        curves: In the order of the legend.
        is_log: Of the vertical axis; values of 0 or less lie at its foot.
    """
    axis = axis_of(curves, is_log)
    step = WIDTH_PX / max(1, len(ticks) - 1)
    xs = [LEFT_PX + step * k for k in range(len(ticks))]
    parts = frame(title, x_label, axis, len(curves))
    for x, tick in zip(xs, ticks, strict=True):
        parts.append(label(x, TOP_PX + HEIGHT_PX + 18, tick, "middle", MUTED))

    # Bands first, so that no line is hidden
    for index, curve in enumerate(curves):
        edges = [(x, band) for x, band in zip(xs, curve.band, strict=False) if band]
        if len(edges) > 1:
            upper = [(x, band[1]) for x, band in edges]
            lower = [(x, band[0]) for x, band in reversed(edges)]
            points = path([*upper, *lower], axis)
            parts.append(f"<path d='{points}Z' fill='{color_of(index)}' opacity='.13'/>")
    for index, curve in enumerate(curves):
        line = [(x, y) for x, y in zip(xs, curve.y, strict=True) if y is not None]
        parts.append(
            f"<path d='{path(line, axis)}' fill='none' stroke='{color_of(index)}' "
            f"stroke-width='2' stroke-dasharray='{dash_of(index)}'/>"
        )
    return finished(parts, [curve.name for curve in curves], has_dots=False)


def dot_plot(title: str, x_label: str, curves: Sequence[Curve], marks: Sequence[Mark]) -> str:
    """Return an SVG element: a dot a value, side by side; marked ones are links with their name.

    Args:
        title: Above it.
        x_label: Below it.
        curves: A value an item each, in one order of items.
        marks: Items that are pointed out, at the first curve.
    """
    axis = axis_of(curves, is_log=False)
    count = max(len(curve.y) for curve in curves)
    xs = [LEFT_PX + WIDTH_PX * (k + 0.5) / count for k in range(count)]
    parts = frame(title, x_label, axis, len(curves))
    for index, curve in reversed(list(enumerate(curves))):
        dots = [(x, y) for x, y in zip(xs, curve.y, strict=True) if y is not None]
        radius = 3 if index == 0 else 2
        circles = "".join(
            f"<circle cx='{x:.1f}' cy='{axis.y(y):.1f}' r='{radius}'/>" for x, y in dots
        )
        parts.append(f"<g fill='{color_of(index)}' opacity='.8'>{circles}</g>")

    # The marked ones: names in rows, so that they do not cover each other
    for row, mark in enumerate(marks):
        value = curves[0].y[mark.item]
        if value is None:
            continue
        x, y = xs[mark.item], axis.y(value)
        text_y = TOP_PX + 14 + 17 * row
        name = label(LEFT_PX + 10, text_y, f"{mark.name}: {value:.4f}", "start", WORST)
        ring = f"<circle cx='{x:.1f}' cy='{y:.1f}' r='6' fill='none' stroke='{WORST}'/>{name}"
        parts.append(f"<a href='{html.escape(mark.link)}'>{ring}</a>" if mark.link else ring)
    return finished(parts, [curve.name for curve in curves], has_dots=True)


def axis_of(curves: Sequence[Curve], is_log: bool) -> Axis:
    # Of all values and bands; a linear axis begins at 0, if no value is below
    values = [value for curve in curves for value in curve.y if value is not None]
    values += [end for curve in curves for band in curve.band if band for end in band]
    values = [value for value in values if math.isfinite(value) and (value > 0 or not is_log)]
    low, high = min(values, default=0.1), max(values, default=1.0)
    if not is_log:
        low = min(0.0, low)
    if high <= low:
        high = low + (abs(low) or 1.0)
    if not is_log:  # to whole steps
        step = round_step(high - low)
        low, high = step * math.floor(low / step), step * math.ceil(high / step)
    return Axis(low, high, is_log)


def round_step(span: float | int) -> float:
    # 1, 2 or 5 times a power of ten, for about NUM_TICKS of them
    least = span / NUM_TICKS
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= least * 0.999)


def tick_text(value: float | int) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def color_of(index: int) -> str:
    return COLORS[index % len(COLORS)]


def dash_of(index: int) -> str:
    # Curves of one color differ in their dashes
    return DASHES[index // len(COLORS) % len(DASHES)]


def path(points: Sequence[tuple[float | int, float | int]], axis: Axis) -> str:
    return "".join(
        f"{'L' if number else 'M'}{x:.1f} {axis.y(y):.1f}" for number, (x, y) in enumerate(points)
    )


def frame(title: str, x_label: str, axis: Axis, num_curves: int) -> list[str]:
    # SVG with title, axes and their labels
    width = LEFT_PX + WIDTH_PX + LEGEND_PX
    height = TOP_PX + max(HEIGHT_PX + BOTTOM_PX, LEGEND_ROW_PX * num_curves + 20)
    parts = [
        f"<div class='plot'><svg viewBox='0 0 {width} {height}' width='{width}' role='img' "
        "font-family='system-ui, sans-serif' font-size='14'>",
        f"<title>{html.escape(title)}</title>",
        label(LEFT_PX, 16, title, "start", TEXT),
        label(LEFT_PX + WIDTH_PX / 2, TOP_PX + HEIGHT_PX + 38, x_label, "middle", TEXT),
    ]
    for tick in axis.ticks():
        y = axis.y(tick)
        parts.append(f"<path d='M{LEFT_PX} {y:.1f}h{WIDTH_PX}' stroke='#dddddd'/>")
        parts.append(label(LEFT_PX - 8, y + 5, tick_text(tick), "end", MUTED))
    return parts


def finished(parts: list[str], names: Sequence[str], has_dots: bool) -> str:
    # Legend, and the end
    left = LEFT_PX + WIDTH_PX + 18
    for index, name in enumerate(names):
        y = TOP_PX + 8 + LEGEND_ROW_PX * index
        if has_dots:
            parts.append(f"<circle cx='{left + 10}' cy='{y}' r='4' fill='{color_of(index)}'/>")
        else:
            parts.append(
                f"<path d='M{left} {y}h20' stroke='{color_of(index)}' stroke-width='2' "
                f"stroke-dasharray='{dash_of(index)}'/>"
            )
        short = name if len(name) <= LEGEND_CHARACTERS else f"{name[: LEGEND_CHARACTERS - 1]}…"
        parts.append(label(left + 28, y + 5, short, "start", TEXT))
    return "\n".join([*parts, "</svg></div>"])


def label(x: float | int, y: float | int, words: str, anchor: str, color: str) -> str:
    return (
        f"<text x='{x:.1f}' y='{y:.1f}' text-anchor='{anchor}' fill='{color}'>"
        f"{html.escape(words)}</text>"
    )
