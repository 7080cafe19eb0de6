"""How far own code is, from the file that it writes: whatever that holds, the report's container goes on."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from lepton_workloads.contract.outcome import Report
from lepton_workloads.contract.own_code import MAX_FILE_BYTES
from lepton_workloads.own.report import Follower
from lepton_workloads.report import ReportServer, metrics_text


class Reporting:
    """A report's container without its waiting."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "progress.json"
        self.server = ReportServer(Report(owner_uid="job-1", epochs=5), port=0)
        self.follower = Follower(self.file, self.server, 5)

    def after(self, text: str) -> Report:
        """The report once the file holds that."""
        temporary = self.file.with_name("next")
        temporary.write_text(text)
        temporary.replace(self.file)
        self.follower.look()
        return self.server.current


def test_progress_becomes_the_report_and_the_metrics(tmp_path: Path) -> None:
    reporting = Reporting(tmp_path)
    reporting.follower.look()
    assert reporting.server.current.phase == "Starting"
    report = reporting.after(
        json.dumps({"phase": "Training", "epoch": 2, "step": 3, "steps": 9, "loss": 0.5, "images": 99})
    )
    assert (report.phase, report.epoch, report.epochs, report.done, report.total) == ("Training", 2, 5, 3, 9)
    assert "lepton_workload_loss 0.5" in metrics_text(report)
    assert reporting.after('{"epochs": 7}').epochs == 7


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '{"loss": NaN}',
        '{"epoch": -1}',
        '{"phase": "lower"}',
        '{"phase": "A line\\nbreak"}',
        '{"unknown": 1}',
        '{"history": ' + json.dumps([{"epoch": 1}] * 33) + "}",
        "[" * 10_000,
        " " * (MAX_FILE_BYTES + 1),
    ],
)
def test_progress_that_is_none_is_passed_over_and_complained_of_once(
    tmp_path: Path, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    reporting = Reporting(tmp_path)
    before = reporting.after('{"epoch": 1}')
    for _ in range(3):
        assert reporting.after(text) == before
    assert [record.message for record in caplog.records] == ["Ignored the progress"]
    assert reporting.after('{"epoch": 2}').epoch == 2
    reporting.after(text)
    assert len(caplog.records) == 2, "it had been mended in between"


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: os.symlink("/etc/passwd", path)])
def test_progress_that_is_no_file_holds_nothing_up(
    tmp_path: Path, make: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    reporting = Reporting(tmp_path)
    make(reporting.file)
    reporting.follower.look()
    assert reporting.server.current.phase == "Starting"
    assert len(caplog.records) == 1
