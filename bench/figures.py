"""Figures, the budgets they are held against, and the ranges that are accepted."""

import math
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

RANGES = Path(__file__).parent / "ranges.toml"


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number."""

    key: str
    """measure.name, as in ranges.toml."""
    what: str
    value: float
    unit: str = ""
    budget: str = ""
    """What the design allows, in words."""

    @property
    def shown(self) -> str:
        """The number as a person reads it."""
        return f"{_rounded(self.value)} {self.unit}".strip()


@dataclass(frozen=True, slots=True)
class Range:
    """What is accepted of a figure."""

    least: float = -math.inf
    most: float = math.inf

    def holds(self, value: float) -> bool:
        """True when the value is accepted."""
        return self.least <= value <= self.most


def load_ranges(path: Path = RANGES) -> dict[str, Range]:
    """The accepted ranges by the figure's key; a wrong file is an error."""
    tables = tomllib.loads(path.read_text())
    return {
        f"{measure}.{name}": Range(**limits)
        for measure, table in tables.items()
        for name, limits in table.items()
    }


def outside(figures: Iterable[Figure], ranges: dict[str, Range]) -> list[str]:
    """One sentence for each figure that is not accepted."""
    return [
        f"{figure.key} is {figure.shown}, accepted is {limits.least} to {limits.most}"
        for figure in figures
        if (limits := ranges.get(figure.key)) is not None and not limits.holds(figure.value)
    ]


def table(figures: Iterable[Figure], ranges: dict[str, Range]) -> str:
    """A table in Markdown; a figure outside its range is bold."""
    rows = ["| what | figure | budget |", "|---|---|---|"]
    for figure in figures:
        limits = ranges.get(figure.key)
        mark = "**" if limits is not None and not limits.holds(figure.value) else ""
        rows.append(f"| {figure.what} | {mark}{figure.shown}{mark} | {figure.budget} |")
    return "\n".join(rows)


def percentile(values: Sequence[float], percent: float) -> float:
    """The smallest value that at least `percent` of all don't exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * percent / 100) - 1)]


def _rounded(value: float) -> str:
    if value == int(value) or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"
