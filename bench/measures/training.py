"""How fast a network is trained: against plain `model.fit`, and by two workers against one. Needs no cluster."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from pathlib import Path

from bench.client import BenchError
from bench.cores import cores
from bench.figures import Figure
from bench.trainer import Run, Taken
from tests.ports import free_ports

ROUNDS = 3
"""The best of so many, in turn: neighbours only make slower."""
CPU_IMAGES = 4000
BATCHES = (64, 128, 512)
GOAL = 512
"""The global batch with a budget."""

INPUT = {
    "plain": Run(),
    "two-threads": Run(threads=2),
    "augmented": Run(augment=True),
}
"""What both `model.fit` and the trainer do."""
OWN = {"bfloat16": Run(precision="mixed_bfloat16"), "xla": Run(jit=True)}
WORDS = {
    "plain": "one thread",
    "two-threads": "two threads",
    "augmented": "one thread, pictures flipped, rotated and shifted",
    "bfloat16": "one thread, mixed_bfloat16",
    "xla": "one thread, XLA",
}


async def input_pipeline() -> AsyncIterator[Figure]:
    """The trainer's loop against `model.fit` on arrays, in turn, each in a process of its own."""
    runs = {
        **{
            (key, how): _pinned(replace(run, how=how))
            for key, run in INPUT.items()
            for how in ("fit", "loop")
        },
        **{(key, "loop"): _pinned(run) for key, run in OWN.items()},
    }
    best: dict[tuple[str, str], Taken] = {}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            best[name] = better(best.get(name), (await _together([run]))[0])
    for (key, how), taken in best.items():
        for figure in _amounts(key, how, taken):
            yield figure
    for key in INPUT:
        for figure in against_fit(key, best[key, "fit"], best[key, "loop"]):
            yield figure


async def scaling() -> AsyncIterator[Figure]:
    """Two workers on a core each, against one worker on one core with the same global batch and with half of it."""
    first, second = cores(2)
    alone: dict[int, Taken] = {}
    gangs: dict[int, Taken] = {}
    for _ in range(ROUNDS):
        for batch in sorted({part for whole in BATCHES for part in (whole, whole // 2)}):
            [taken] = await _together([Run(batch=batch, cores=(first,))])
            alone[batch] = better(alone.get(batch), taken)
            if batch in BATCHES:
                ports = tuple(free_ports(2, following=1))  # TensorFlow takes the next one
                gang = [
                    Run(batch=batch, cores=(core,), ports=ports, index=index)
                    for index, core in enumerate((first, second))
                ]
                chief, other = await _together(gang)
                busiest = replace(chief, cpu=max(chief.cpu, other.cpu))
                gangs[batch] = better(gangs.get(batch), busiest)
    for batch in BATCHES:
        for figure in speed_up(batch, alone[batch], alone[batch // 2], gangs[batch]):
            yield figure


def better(before: Taken | None, now: Taken) -> Taken:
    """The faster one, with the least CPU and memory that any needed."""
    if before is None:
        return now
    faster = min(before, now, key=lambda taken: taken.seconds)
    return replace(faster, cpu=min(before.cpu, now.cpu), memory=min(before.memory, now.memory))


def cpu_of(taken: Taken) -> float:
    """CPU seconds for CPU_IMAGES images."""
    return taken.cpu / taken.images * CPU_IMAGES


def against_fit(key: str, fit: Taken, loop: Taken) -> list[Figure]:
    """How much more the trainer's loop takes."""
    what = f"training, {WORDS[key]}: the trainer against model.fit on arrays"
    return [
        Figure(f"input.{key}-rate", f"{what}: images/s", loop.rate / fit.rate, "x", ">= 1"),
        Figure(f"input.{key}-cpu", f"{what}: CPU", loop.cpu / fit.cpu, "x", "<= 1"),
        Figure(f"input.{key}-memory", f"{what}: peak memory", loop.memory / fit.memory, "x", "<= 1"),
    ]


def speed_up(batch: int, alone: Taken, half: Taken, gang: Taken) -> list[Figure]:
    """Of two workers.

    Args:
        alone: one worker with the same global batch.
        half: one worker with what is one worker's share; what a step of the gang takes more is communication.
        gang: its chief, with the CPU time of the busier worker.
    """
    what = f"training, global batch {batch}"
    budget = ">= 1.7" if batch == GOAL else ""
    share = max(gang.step - half.step, 0) / gang.step * 100
    return [
        Figure(f"scaling.{batch}-one", f"{what}: one worker on one core", alone.rate, "images/s"),
        Figure(f"scaling.{batch}-two", f"{what}: two workers on a core each", gang.rate, "images/s"),
        Figure(
            f"scaling.{batch}-speedup", f"{what}: two workers, speed-up", gang.rate / alone.rate, "x", budget
        ),
        Figure(
            f"scaling.{batch}-cpu",
            f"{what}: two workers, speed-up that the CPU time of the busier one allows",
            alone.cpu / gang.cpu,
            "x",
        ),
        Figure(f"scaling.{batch}-lost", f"{what}: share of a step lost to communication", share, "%"),
    ]


def _pinned(run: Run) -> Run:
    return replace(run, cores=tuple(cores(run.threads)))


def _amounts(key: str, how: str, taken: Taken) -> list[Figure]:
    who = "model.fit" if how == "fit" else "the trainer"
    what = f"training, {WORDS[key]}: {who}"
    return [
        Figure(f"input.{key}-{how}-rate", f"{what}", taken.rate, "images/s"),
        Figure(f"input.{key}-{how}-cpu", f"{what}: CPU for {CPU_IMAGES:,} images", cpu_of(taken), "s"),
        Figure(f"input.{key}-{how}-memory", f"{what}: peak memory", taken.memory, "MiB"),
    ]


async def _together(runs: Sequence[Run]) -> list[Taken]:
    """What each of these processes took, which run at the same time.

    Raises:
        BenchError: one failed.
    """
    started = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.trainer",
            run.to_json(),
            cwd=Path(__file__).parents[2],
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        for run in runs
    ]
    try:
        ended = await asyncio.gather(*(process.communicate() for process in started))
    finally:
        for process in started:
            with contextlib.suppress(ProcessLookupError):  # it has ended
                process.kill()
    for process, (_, errors) in zip(started, ended, strict=True):
        if process.returncode:
            raise BenchError(f"a training ended with {process.returncode}: {errors.decode()[-2000:]}")
    return [Taken(**json.loads(output.splitlines()[-1])) for output, _ in ended]
