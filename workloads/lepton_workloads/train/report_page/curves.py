"""Line charts of the history as SVG."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lepton_workloads.contract.outcome import Epoch
from lepton_workloads.train.report_page.markup import Markup, element, join, table
from lepton_workloads.train.report_page.wording import coarse_percent, number, percent

WIDTH, HEIGHT = 320, 210
LEFT, RIGHT, TOP, BOTTOM = 50, 12, 10, 38
MAX_POINTS = 400
MAX_ROWS = 100
MAX_DOTS = 40
SMALLEST = 1e-300
"""Numbers below can't be divided any further."""
Point = tuple[float, float]


@dataclass(frozen=True)
class Line:
    """One line of a chart."""

    name: str
    style: str
    """Class in style.css."""
    points: Sequence[Point]


def learning_curves(history: Sequence[Epoch], best_epoch: int | None) -> Markup:
    """Loss, accuracy and learning rate by epoch, and the numbers as a table."""
    charts = [
        _chart("Loss", _lines(history, "loss"), number, best_epoch),
        _chart("Accuracy", _lines(history, "accuracy"), coarse_percent, best_epoch),
    ]
    rates = [
        (float(epoch.epoch), epoch.learning_rate) for epoch in history if epoch.learning_rate is not None
    ]
    if rates:
        charts.append(_chart("Learning rate", [Line("learning rate", "rate", rates)], number, None))
    return join([element("div", charts, class_="charts"), _numbers(history)])


def ticks(low: float, high: float, wanted: int = 4) -> list[float]:
    """Round numbers that cover low to high."""
    span = high - low
    largest = max(abs(low), abs(high))
    if span <= max(1e-9 * largest, SMALLEST):
        span = largest if largest > SMALLEST else 1.0
        low, high = low - span / 2, high + span / 2
    power = 10.0 ** math.floor(math.log10(span / wanted))
    step = next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= wanted)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{position * step:.12g}") for position in range(first, last + 1)]


def thinned(values: Sequence[Epoch], limit: int) -> list[Epoch]:
    """At most `limit` of them, evenly, the first and the last among them."""
    if len(values) <= limit:
        return list(values)
    return [values[round(index * (len(values) - 1) / (limit - 1))] for index in range(limit)]


def _lines(history: Sequence[Epoch], name: str) -> list[Line]:
    lines = [
        Line("training", "train", _points(history, name)),
        Line("validation", "validation", _points(history, f"validation_{name}")),
    ]
    return [line for line in lines if line.points]


def _points(history: Sequence[Epoch], field: str) -> list[Point]:
    values = ((float(epoch.epoch), getattr(epoch, field)) for epoch in history)
    return [(epoch, value) for epoch, value in values if value is not None]


def _chart(title: str, lines: list[Line], written: Callable[[float], str], best: int | None) -> Markup:
    lines = [Line(line.name, line.style, _thin(line.points)) for line in lines]
    values = [y for line in lines for _, y in line.points]
    epochs = [x for line in lines for x, _ in line.points]
    low, high = min(values), max(values)
    levels = ticks(0.0 if 0 < low < high / 3 else low, high)
    first, last = min(epochs), max(epochs)

    def place(x: float, y: float) -> Point:
        across = (x - first) / (last - first) if last > first else 0.5
        up = (y - levels[0]) / (levels[-1] - levels[0])
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    parts = [_grid(levels, written, place, first)]
    parts.append(_epochs(first, last, place, levels[0]))
    if best is not None and first <= best <= last:
        x, _ = place(best, levels[0])
        parts.append(element("line", class_="best", x1=_px(x), x2=_px(x), y1=TOP, y2=HEIGHT - BOTTOM))
    parts += [_line(line, place) for line in lines]
    end = "; ".join(f"{line.name} {written(line.points[-1][1])}" for line in lines)
    told = f"{title} by epoch, {first:.0f} to {last:.0f}. At the end: {end}."
    picture = element("svg", parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=told)
    return element("figure", element("h3", title), picture, _legend(lines, best), class_="card")


def _grid(
    levels: list[float], written: Callable[[float], str], place: Callable[[float, float], Point], first: float
) -> Markup:
    parts: list[Markup] = []
    for level in levels:
        y = place(first, level)[1]
        parts.append(element("line", class_="grid", x1=LEFT, x2=WIDTH - RIGHT, y1=_px(y), y2=_px(y)))
        parts.append(element("text", written(level), x=LEFT - 6, y=_px(y + 4), text_anchor="end"))
    return join(parts)


def _epochs(first: float, last: float, place: Callable[[float, float], Point], low: float) -> Markup:
    wanted = [first] if first == last else ticks(first, last, 5)
    shown = [tick for tick in wanted if first <= tick <= last and tick == round(tick)]
    parts = [
        element("text", f"{tick:.0f}", x=_px(place(tick, low)[0]), y=HEIGHT - 20, text_anchor="middle")
        for tick in dict.fromkeys([first, *shown, last])
        if tick in (first, last) or (last - tick) > (last - first) / 12 < (tick - first)
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return join([*parts, element("text", "epoch", x=_px(middle), y=HEIGHT - 4, text_anchor="middle")])


def _line(line: Line, place: Callable[[float, float], Point]) -> Markup:
    spots = [place(*point) for point in line.points]
    parts = [
        element("polyline", class_=line.style, points=" ".join(f"{_px(x)},{_px(y)}" for x, y in spots)),
    ]
    if len(spots) <= MAX_DOTS:
        parts += [element("circle", class_=line.style, cx=_px(x), cy=_px(y), r=2.5) for x, y in spots]
    return join(parts)


def _legend(lines: list[Line], best: int | None) -> Markup:
    parts = [element("li", element("span", class_=f"key {line.style}"), line.name) for line in lines]
    if best is not None:
        parts.append(element("li", element("span", class_="key best"), f"best epoch {best}"))
    return element("ul", parts, class_="legend")


def _thin(points: Sequence[Point]) -> list[Point]:
    step = max(math.ceil(len(points) / MAX_POINTS), 1)
    return [*points[:-1:step], points[-1]]


def _numbers(history: Sequence[Epoch]) -> Markup:
    shown = thinned(history, MAX_ROWS)
    rows = [
        (
            epoch.epoch,
            number(epoch.loss),
            percent(epoch.accuracy),
            number(epoch.validation_loss),
            percent(epoch.validation_accuracy),
            number(epoch.learning_rate),
        )
        for epoch in shown
    ]
    head = ("Epoch", "Loss", "Accuracy", "Validation loss", "Validation accuracy", "Learning rate")
    title = "All epochs" if len(shown) == len(history) else f"{len(shown)} of {len(history)} epochs"
    return element("details", element("summary", f"{title} as a table"), table(title, head, rows))


def _px(value: float) -> str:
    return f"{value:.1f}"
