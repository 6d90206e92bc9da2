"""Pictures as inline SVG, whose colours are the page's own, so that they are as readable in the dark."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from html import escape

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 340, 190
LEFT, RIGHT, TOP, BOTTOM = 46, 8, 8, 34
"""Room around the axes, for numbers and the name of the axis."""
LINE_COLORS = 6
"""Colours of lines, `c0` to `c5` of the style sheet; c0 is that of the text."""
_TICKS = 4
_MAX_POINTS = 600


@dataclass(frozen=True)
class Line:
    """Numbers that belong together.

    Attributes:
        name: What they are.
        x: [T], ascending.
        y: [T], NaN where there is none: the line is broken there.
        color: Number of its colour.
        low: Lower end of a band around it, [T]; None without a band.
        high: Upper end.
        dots: Whether each point is marked.
        joined: Whether a line joins the points.
    """

    name: str
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    color: int = 0
    low: NDArray[np.float64] | None = None
    high: NDArray[np.float64] | None = None
    dots: bool = False
    joined: bool = True


@dataclass(frozen=True)
class Axis:
    """Maps numbers to places.

    Attributes:
        low: Its smallest number, or that number's logarithm.
        high: Its largest.
        begin: Where the smallest is drawn.
        end: Where the largest is.
        log: Whether places are those of logarithms.
        whole: Whether its numbers are whole ones.
    """

    low: float
    high: float
    begin: float
    end: float
    log: bool = False
    whole: bool = False

    def at(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Places of numbers."""
        with np.errstate(divide="ignore", invalid="ignore"):
            scaled = np.log10(values) if self.log else values
        places: NDArray[np.float64] = self.begin + (scaled - self.low) / (self.high - self.low) * (
            self.end - self.begin
        )
        return places

    def ticks(self) -> list[float]:
        """A few round numbers on it."""
        if self.log:
            powers = [10.0**p for p in range(math.ceil(self.low - 1e-9), math.floor(self.high + 1e-9) + 1)]
            if len(powers) > 1:
                return powers[:: -(-len(powers) // (_TICKS + 1))]
            return replace(self, low=10**self.low, high=10**self.high, log=False).ticks()
        rough = max((self.high - self.low) / _TICKS, float(self.whole))
        unit = 10.0 ** math.floor(math.log10(rough))
        step = unit * next(factor for factor in (1, 2, 2.5, 5, 10) if factor * unit >= rough * 0.999)
        first = math.ceil(self.low / step - 1e-9)
        return [n * step for n in range(first, math.floor(self.high / step + 1e-9) + 1)]


def axis(values: Sequence[NDArray[np.float64]], begin: float, end: float, log: bool = False) -> Axis:
    """An axis that holds all numbers that are finite, with some room at both ends."""
    known = np.concatenate([np.ravel(part) for part in values]) if values else np.empty(0)
    known = known[np.isfinite(known) & ((known > 0) | (not log))]
    if not len(known):
        known = np.array([0.1, 1.0])
    known = np.log10(known) if log else known
    low, high = float(known.min()), float(known.max())
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-30):
        room = 0.5 if log else 0.05 * abs(low) or 1.0
        low, high = low - room, high + room
    room = 0.04 * (high - low)
    return Axis(low - room, high + room, begin, end, log)


def chart(
    title: str, lines: Sequence[Line], x_name: str, log: bool = False, log_x: bool = False, whole: bool = False
) -> str:
    """A picture of lines and their bands; the legend is not part of it.

    Args:
        title: Stands above it.
        lines: What is drawn, one over the other.
        x_name: Of the horizontal axis.
        log: Whether heights are logarithms.
        log_x: Likewise of the horizontal axis.
        whole: Whether heights are whole numbers.
    """
    lines = [_thinned(line) for line in lines]
    x = axis([line.x for line in lines], LEFT, WIDTH - RIGHT, log_x)
    heights = [part for line in lines for part in (line.y, line.low, line.high) if part is not None]
    y = replace(axis(heights, HEIGHT - BOTTOM, TOP, log), whole=whole)
    drawn = [*_grid(x, y), *(_band(line, x, y) for line in lines if line.low is not None)]
    drawn += [_line(line, x, y, under=i == 0 and len(lines) > 1) for i, line in enumerate(lines)]
    drawn.append(f'<text class="name" x="{(LEFT + WIDTH - RIGHT) / 2:g}" y="{HEIGHT - 3}">{escape(x_name)}</text>')
    return figure(title, "".join(drawn), WIDTH, HEIGHT)


def figure(title: str, drawn: str, width: int, height: int) -> str:
    """A picture with its title."""
    said = escape(title)
    svg = f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{said}">{drawn}</svg>'
    return f"<figure><figcaption>{said}</figcaption>{svg}</figure>"


def panels(charts: Sequence[str]) -> str:
    """Pictures side by side, as many as there is room for."""
    return f'<div class="panels">{"".join(charts)}</div>'


def legend(lines: Sequence[Line]) -> str:
    """What the colours mean, once for several pictures of the same lines."""
    names = {line.name: line for line in lines}
    marks = (
        f'<span><svg class="mark" viewBox="0 0 24 10"><path class="line c{line.color}" d="M1 5H23"/></svg>'
        f"{escape(name)}</span>"
        for name, line in names.items()
    )
    return f'<p class="legend">{"".join(marks)}</p>'


def _thinned(line: Line) -> Line:
    """The line with at most `_MAX_POINTS` points, evenly apart."""
    if len(line.x) <= _MAX_POINTS:
        return line
    kept = np.unique(np.linspace(0, len(line.x) - 1, _MAX_POINTS).astype(np.int64))
    low, high = (None if part is None else part[kept] for part in (line.low, line.high))
    return replace(line, x=line.x[kept], y=line.y[kept], low=low, high=high)


def _grid(x: Axis, y: Axis) -> Iterator[str]:
    """Lines at round numbers, and the numbers."""
    for value in y.ticks():
        place = float(y.at(np.array(value)))
        yield f'<path class="grid" d="M{LEFT} {place:.1f}H{WIDTH - RIGHT}"/>'
        yield f'<text class="y" x="{LEFT - 5}" y="{place + 3.5:.1f}">{short(value)}</text>'
    for value in x.ticks():
        place = float(x.at(np.array(value)))
        yield f'<path class="grid" d="M{place:.1f} {TOP}V{HEIGHT - BOTTOM}"/>'
        yield f'<text class="x" x="{place:.1f}" y="{HEIGHT - BOTTOM + 13}">{short(value)}</text>'


def _line(line: Line, x: Axis, y: Axis, under: bool) -> str:
    """A line, wide where others may cover it, and its points where they are marked or stand alone."""
    points = np.stack([x.at(line.x), y.at(line.y)], axis=1)
    known = np.asarray(np.isfinite(points).all(axis=1))
    path, dots = "", ""
    for run in _runs(known):
        some = points[run]
        path += "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in some) if line.joined and len(some) > 1 else ""
        if line.dots or len(some) == 1:
            size = 2 if line.joined else 1.5
            dots += "".join(
                f'<circle class="dot c{line.color}" cx="{a:.1f}" cy="{b:.1f}" r="{size}"/>' for a, b in some
            )
    kind = f"line c{line.color}{' under' * under}"
    return (f'<path class="{kind}" d="{path}"/>' if path else "") + dots


def _band(line: Line, x: Axis, y: Axis) -> str:
    """The band around a line."""
    assert line.low is not None and line.high is not None
    across, low, high = x.at(line.x), y.at(line.low), y.at(line.high)
    path = ""
    known = np.asarray(np.isfinite(np.stack([low, high])).all(axis=0))
    for run in _runs(known):
        there = zip(across[run], high[run], strict=True)
        back = zip(across[run][::-1], low[run][::-1], strict=True)
        path += "M" + "L".join(f"{a:.1f} {b:.1f}" for a, b in (*there, *back)) + "Z"
    return f'<path class="band c{line.color}" d="{path}"/>' if path else ""


def _runs(known: NDArray[np.bool_]) -> Iterator[slice]:
    """Stretches that are true."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], known, [False]]).astype(np.int8)))
    for begin, end in zip(edges[::2], edges[1::2], strict=True):
        yield slice(int(begin), int(end))


def short(value: float) -> str:
    """A number as axes show it."""
    if value and not 1e-3 <= abs(value) < 1e5:
        digits, _, power = f"{value:.3g}".partition("e")
        return f"{digits}e{int(power)}" if power else digits
    return f"{value:.4g}".replace("-", "−")
