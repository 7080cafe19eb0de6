"""Results as bars in one SVG, drawn by hand: no script, no outside links, fonts of the reader."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

from bench.serving.cells import WORDS, Cell
from bench.serving.results import Results
from bench.serving.servers import INT8, LEPTON, SERVERS

SHOWN = (("json", 8), ("binary", 64), ("large", 8))
"""One group of bars each: kind of request, clients."""
WIDTH, LEFT, RIGHT = 820, 300, 90
BAR, GAP, HEADING = 18, 5, 34
OURS, THEIRS = "#0b6e4f", "#8a94a3"


@dataclass(frozen=True, slots=True)
class Bar:
    """One server's requests a second."""

    words: str
    rate: float
    ours: bool


def bars(results: Results, kind: str, clients: int) -> list[Bar]:
    """The fastest first; what could not be measured has none."""
    found = [
        Bar(f"{server.words}, {server.engine}", taken.rate, server.name in (LEPTON, INT8))
        for server in SERVERS
        if (taken := results.cells.get(Cell(server.name, kind, clients))) is not None
    ]
    return sorted(found, key=lambda bar: -bar.rate)


def svg(results: Results) -> str:
    """The picture."""
    parts: list[str] = []
    top = 16
    for kind, clients in SHOWN:
        group = bars(results, kind, clients)
        title = f"{WORDS[kind]}, {clients} clients: requests a second on one core"
        parts.append(f'<text x="16" y="{top + 16}" font-weight="bold">{escape(title)}</text>')
        top += HEADING
        longest = max((bar.rate for bar in group), default=1.0) or 1.0
        for bar in group:
            parts.append(_bar(bar, top, longest))
            top += BAR + GAP
        top += 14
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{top}" viewBox="0 0 {WIDTH} {top}" '
        'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="Servers side by side">'
    )
    background = f'<rect width="{WIDTH}" height="{top}" fill="#ffffff"/>'
    return "\n".join([head, background, *parts, "</svg>"]) + "\n"


def _bar(bar: Bar, top: int, longest: float) -> str:
    width = max(bar.rate / longest * (WIDTH - LEFT - RIGHT), 1)
    middle = top + BAR - 5
    number = f"{bar.rate:,.0f}" if bar.rate >= 10 else f"{bar.rate:.1f}"
    return (
        f'<text x="{LEFT - 8}" y="{middle}" text-anchor="end">{escape(bar.words)}</text>'
        f'<rect x="{LEFT}" y="{top}" width="{width:.1f}" height="{BAR}" fill="{OURS if bar.ours else THEIRS}"/>'
        f'<text x="{LEFT + width + 6:.1f}" y="{middle}">{number}</text>'
    )
