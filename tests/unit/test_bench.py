"""The benchmark: what it counts, and when it says that a figure is not accepted."""

import json
from pathlib import Path
from typing import Any

import pytest

from bench.audit import AuditLog, counted
from bench.figures import Figure, Range, load_ranges, outside, percentile, table


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
