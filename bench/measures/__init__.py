"""The measures, by the name that `make bench ONLY=...` knows; each yields figures as it gets them."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.figures import Figure
from bench.measures import faults, kinds, scale, takeover, wave
from bench.world import World

Run = Callable[[World], AsyncIterator[Figure]]


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure."""

    run: Run
    seconds: float
    """It is given up after so long."""
    by_default: bool = True


MEASURES = {
    "kinds": Measure(kinds.run, 240),
    "wave": Measure(wave.run, 300),
    "faults": Measure(faults.run, 180),
    "takeover": Measure(takeover.run, 300),
    "thousand": Measure(scale.thousand, 1200),
    "ten-thousand": Measure(scale.ten_thousand, 3600, by_default=False),
}
