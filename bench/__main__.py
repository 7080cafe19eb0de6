"""`make bench`: takes the measures, prints the table, exits 1 when a figure is outside its accepted range."""

import argparse
import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

from bench import world
from bench.figures import Figure, load_ranges, outside, table
from bench.measures import MEASURES, Measure, PlainMeasure
from bench.speed import Speedometer

RESULTS = Path(__file__).parent / "results.json"


def main() -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--only", choices=sorted(MEASURES), action="append", help="a measure; all usual ones by default"
    )
    chosen = parser.parse_args().only or [name for name, measure in MEASURES.items() if measure.by_default]
    figures: list[Figure] = []
    # A run that is told to stop takes its cluster and its operators with it, however it is told.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
    try:
        asyncio.run(_take({name: MEASURES[name] for name in chosen}, figures))
    finally:
        ranges = load_ranges()
        print(f"\n{table(figures, ranges)}\n", flush=True)
        _keep(figures)
    problems = outside(figures, ranges)
    for problem in problems:
        print(f"Outside: {problem}", file=sys.stderr)
    return 1 if problems else 0


async def _take(measures: dict[str, Measure | PlainMeasure], figures: list[Figure]) -> None:
    """Adds each figure as soon as it is known: what follows may fail.

    What needs no cluster comes first, while there is none beside it.
    """
    speedometer = Speedometer()
    speedometer.start()
    try:
        for name, measure in measures.items():
            if isinstance(measure, PlainMeasure):
                await _take_one(name, measure.run(), measure.seconds, speedometer, figures)
        on_cluster = {name: held for name, held in measures.items() if isinstance(held, Measure)}
        if on_cluster:
            async with world.prepared() as ours:
                for name, held in on_cluster.items():
                    await _take_one(name, held.run(ours), held.seconds, speedometer, figures)
    finally:
        await speedometer.stop()


async def _take_one(
    name: str,
    measured: AsyncIterator[Figure],
    seconds: float,
    speedometer: Speedometer,
    figures: list[Figure],
) -> None:
    mark, started = speedometer.mark(), time.monotonic()
    _say(f"{name}: started, load average {os.getloadavg()[0]:.1f}")
    async with asyncio.timeout(seconds):
        async for figure in measured:
            _say(f"{name}: {figure.what}: {figure.shown}")
            figures.append(figure)
    _say(f"{name}: took {time.monotonic() - started:.0f} s")
    figures.append(_speed(name, speedometer.percent_since(mark)))


def _speed(name: str, percent: float) -> Figure:
    what = f"conditions of `{name}`: work done in a CPU second, of the most in this run"
    return Figure(f"{name}.speed", what, percent, "%")


def _keep(figures: list[Figure]) -> None:
    """The newest value of every figure that was ever measured here, with its time."""
    held = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    now = datetime.now(UTC).isoformat(timespec="seconds")
    held |= {
        figure.key: {"what": figure.what, "value": figure.value, "unit": figure.unit, "time": now}
        for figure in figures
    }
    RESULTS.write_text(json.dumps(held, indent=1) + "\n")


def _say(line: str) -> None:
    print(f"[{datetime.now():%H:%M:%S}] {line}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
