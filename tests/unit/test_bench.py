"""The benchmark: what it counts, and when it says that a figure is not accepted."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bench.audit import AuditLog, counted
from bench.client import BenchError
from bench.cores import cores
from bench.figures import Figure, Range, load_ranges, outside, percentile, table
from bench.measures import MEASURES, training
from bench.trainer import EPOCHS, Clock, Run, Taken


def entry(verb: str, resource: str, *, agent: str = "lepton/0.1.0 (me)", **target: str) -> str:
    """A line of the API server's audit log."""
    event: dict[str, Any] = {
        "verb": verb,
        "userAgent": agent,
        "objectRef": {"resource": resource, "namespace": "default", "name": "digits", **target},
        "responseStatus": {"code": 200},
        "stageTimestamp": "2026-01-01T00:00:00.250000Z",
    }
    return json.dumps(event, separators=(",", ":")) + "\n"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log with one old write in it."""
    path = tmp_path / "audit.log"
    path.write_text(entry("create", "services"))
    return path


def append(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.writelines(lines)


def test_only_new_writes_of_the_operator_are_counted(log: Path) -> None:
    audit = AuditLog(log)
    append(
        log,
        entry("patch", "leptonmodels", subresource="status"),
        entry("watch", "pods"),
        entry("get", "leptonmodels"),
        entry("create", "deployments", agent="lepton-bench"),
        entry("update", "leases"),
        entry("patch", "leptonmodels", agent="kopf/1.45"),
    )
    assert counted(audit.writes()) == {"patch leptonmodels/status": 1, "patch leptonmodels": 1}
    assert audit.writes() == []
    audit.close()


def test_a_line_that_is_written_in_two_parts_counts_once(log: Path) -> None:
    audit = AuditLog(log)
    line = entry("create", "jobs")
    append(log, line[:40])
    assert audit.writes() == []
    append(log, line[40:])
    assert [write.time for write in audit.writes()] == [1767225600.25]
    audit.close()


def test_no_write_is_lost_when_the_log_is_rotated(log: Path) -> None:
    audit = AuditLog(log)
    append(log, entry("create", "jobs"))
    log.rename(log.with_name("audit-old.log"))
    log.write_text(entry("create", "services"))
    assert counted(audit.writes()) == {"create jobs": 1, "create services": 1}
    audit.close()


def test_a_figure_outside_its_range_is_named_and_bold() -> None:
    figures = [
        Figure("wave.ratio", "a ratio", 1.5, "x", "<= 1.3"),
        Figure("wave.seconds", "a time", 9.0, "s"),
    ]
    ranges = {"wave.ratio": Range(most=1.3), "wave.cpu": Range(most=12)}
    assert outside(figures, ranges) == ["wave.ratio is 1.50 x, accepted is -inf to 1.3"]
    assert "| a ratio | **1.50 x** | <= 1.3 |" in table(figures, ranges)
    assert "| a time | 9 s |  |" in table(figures, ranges)


def test_a_figure_on_the_edge_of_its_range_is_accepted() -> None:
    assert outside([Figure("kinds.writes", "writes", 6)], {"kinds.writes": Range(least=6, most=6)}) == []


def test_the_accepted_ranges_can_be_read() -> None:
    ranges = load_ranges()
    assert ranges["thousand.quiet-writes"].holds(0)
    assert not ranges["thousand.quiet-writes"].holds(1)


@pytest.mark.parametrize(("percent", "expected"), [(50, 5), (90, 9), (100, 10), (1, 1)])
def test_a_percentile_is_a_measured_value(percent: float, expected: float) -> None:
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], percent) == expected


def taken(**fields: float) -> Taken:
    values = {"images": 6000, "steps": 100, "seconds": 10.0, "cpu": 9.0, "memory": 500.0, **fields}
    return Taken(**values)  # type: ignore[arg-type]


def shown(figures: list[Figure]) -> dict[str, float]:
    return {figure.key: round(figure.value, 4) for figure in figures}


def test_two_workers_are_held_against_one_with_the_same_batch_and_one_with_half_of_it() -> None:
    alone, half, gang = taken(), taken(images=3000, seconds=5.0), taken(seconds=6.25, cpu=5.0)
    assert shown(training.speed_up(512, alone, half, gang)) == {
        "scaling.512-one": 600,
        "scaling.512-two": 960,
        "scaling.512-speedup": 1.6,
        "scaling.512-cpu": 1.8,
        "scaling.512-lost": 20,
    }
    budgets = {figure.key: figure.budget for figure in training.speed_up(512, alone, half, gang)}
    assert budgets["scaling.512-speedup"] == ">= 1.7"
    assert {figure.budget for figure in training.speed_up(64, alone, half, gang)} == {""}


def test_a_gang_that_is_faster_than_half_the_work_lost_nothing() -> None:
    figures = shown(training.speed_up(64, taken(), taken(seconds=7.0), taken(seconds=6.0)))
    assert figures["scaling.64-lost"] == 0


def test_the_trainer_is_held_against_fit() -> None:
    found = training.against_fit("plain", taken(), taken(seconds=8.0, cpu=4.5, memory=400.0))
    assert shown(found) == {"input.plain-rate": 1.25, "input.plain-cpu": 0.5, "input.plain-memory": 0.8}
    assert training.cpu_of(taken()) == pytest.approx(6.0)


def test_the_best_of_several_rounds_counts() -> None:
    first, second = taken(seconds=9.0, cpu=8.0), taken(seconds=7.0, cpu=8.5, memory=490.0)
    assert training.better(None, first) == first
    assert training.better(first, second) == training.better(second, first) == replace(second, cpu=8.0)


def test_the_first_epoch_of_a_training_is_not_counted() -> None:
    # Two steps an epoch, each followed by the end of the epoch; the first epoch is slow.
    clock, at = Clock(), 0.0
    for epoch in range(EPOCHS):
        for _ in range(3):
            at += 1.0 if epoch else 100.0
            clock.beats.append((at, at / 2))
    found = clock.taken(2, samples=20)
    assert (found.images, found.steps) == ((EPOCHS - 1) * 20, (EPOCHS - 1) * 2)
    assert found.seconds == 100.0 + 3 * (EPOCHS - 1) - 1
    assert found.cpu == found.seconds / 2
    assert found.memory > 1


def test_a_run_is_told_to_its_process_as_it_is() -> None:
    run = Run(how="fit", threads=2, cores=(0, 1), ports=(1, 3), index=1, augment=True)
    assert Run.read(run.to_json()) == run
    with pytest.raises(BenchError, match="cores are needed"):
        cores(100_000)


def test_every_range_is_of_a_measure_that_exists() -> None:
    assert {key.partition(".")[0] for key in load_ranges()} <= MEASURES.keys()
