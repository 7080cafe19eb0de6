"""The measures, by the name that `make bench ONLY=...` knows; each yields figures as it gets them."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from bench.figures import Figure
from bench.measures import faults, kinds, scale, serving, takeover, training, wave
from bench.world import World


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure of the operator, on the simulated cluster."""

    run: Callable[[World], AsyncIterator[Figure]]
    seconds: float
    """It is given up after so long."""
    by_default: bool = True


@dataclass(frozen=True, slots=True)
class PlainMeasure:
    """One measure that needs no cluster."""

    run: Callable[[], AsyncIterator[Figure]]
    seconds: float
    by_default: bool = True


MEASURES: dict[str, Measure | PlainMeasure] = {
    "input": PlainMeasure(training.input_pipeline, 1800),
    "scaling": PlainMeasure(training.scaling, 1800),
    "serving": PlainMeasure(serving.run, 3600),
    "kinds": Measure(kinds.run, 600),
    "wave": Measure(wave.run, 900),
    "faults": Measure(faults.run, 600),
    "takeover": Measure(takeover.run, 600),
    "thousand": Measure(scale.thousand, 2400),
    "ten-thousand": Measure(scale.ten_thousand, 7200, by_default=False),
}
