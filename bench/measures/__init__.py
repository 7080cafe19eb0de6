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
    "kinds": Measure(kinds.run, 600),
    "wave": Measure(wave.run, 900),
    "faults": Measure(faults.run, 600),
    "takeover": Measure(takeover.run, 600),
    "thousand": Measure(scale.thousand, 2400),
    "ten-thousand": Measure(scale.ten_thousand, 7200, by_default=False),
}
