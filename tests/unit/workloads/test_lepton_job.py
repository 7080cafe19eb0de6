"""The helper of own code: alone and without any library, and against the real report's container."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lepton_workloads.contract.outcome import Epoch, Outcome, Report, parse_outcome
from lepton_workloads.contract.own_code import OwnCodeTask, OwnProgress, OwnResult
from lepton_workloads.own import lepton_job
from lepton_workloads.own.report import Follower
from lepton_workloads.report import ReportServer
from lepton_workloads.train.gate import fetch_report
from tests.ports import free_ports

from .conftest import Pod
from .test_own_example import WORKLOADS

RESULT = {"test_accuracy": 0.9, "test_loss": 0.3, "train_accuracy": 1, "train_loss": 0.01, "epochs": 3}


@pytest.fixture
def job(pod: Pod, monkeypatch: pytest.MonkeyPatch) -> lepton_job.Job:
    """The chief of two workers, with a small dataset."""
    pod.image_folder(classes=2, each=10)
    result = pod.prepare(picture={"height": 4, "width": 6, "channels": 1}).prepare
    assert result is not None
    folder = pod.root / "lepton"
    for name in ("output", "progress"):
        (folder / name).mkdir()
    told: dict[str, Any] = {
        "JOB": "ns/own",
        "JOB_UID": "job-1",
        "ATTEMPT": 2,
        "WORKER_INDEX": 0,
        "WORKERS": 2,
        "PEERS": "localhost:1,localhost:2",
        "STARTUP_DEADLINE_SECONDS": 60,
        "THREADS": 1,
        "SEED": 5,
        "TRAINING": json.dumps({"epochs": 4}),
        "DATASET_DIR": pod.datasets / result.key,
        "CHECKPOINTS_DIR": folder / "checkpoints",
        "OUTPUT_DIR": folder / "output",
        "PROGRESS_FILE": folder / "progress/progress.json",
        "PUBLISHED_FILE": folder / "progress/published",
        "ERROR_FILE": pod.root / "termination",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"LEPTON_{name}", str(value))
    monkeypatch.setattr(lepton_job, "_progress", {})
    monkeypatch.setattr(lepton_job, "_written", -math.inf)
    return lepton_job.read_job()


def written(job: lepton_job.Job) -> OwnProgress:
    """The progress, as the contract reads it."""
    file = job.output_folder.parent / "progress/progress.json"
    return OwnProgress.model_validate_json(file.read_text())


def test_one_copied_file_needs_no_library_at_all(job: lepton_job.Job, tmp_path: Path) -> None:
    folder = tmp_path / "alone"
    folder.mkdir()
    shutil.copy(lepton_job.__file__, folder)
    (folder / "main.py").write_text(
        "import lepton_job as lepton\n"
        "job = lepton.read_job()\n"
        "split = lepton.Dataset(job.dataset_folder).split('train')\n"
        "assert len(split) == 16 and len(split.picture(15)) == 24 and set(split.labels) == {0, 1}\n"
        "lepton.report_epoch(1, loss=0.5, accuracy=0.5, seconds=1.0, images=16)\n"
        "lepton.fail('InvalidData', 'no cats')\n"
    )
    ended = subprocess.run(
        [sys.executable, "-S", str(folder / "main.py")], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 3, ended.stderr
    told = parse_outcome((tmp_path / "termination").read_text())
    assert told == Outcome(reason="InvalidData", message="no cats", terminal=True)
    assert written(job).epoch == 1


def test_arrays_are_the_pictures_that_were_prepared(job: lepton_job.Job) -> None:
    dataset = lepton_job.Dataset(job.dataset_folder)
    images, labels = dataset.split("train").arrays()
    raw = np.fromfile(job.dataset_folder / "train.images", np.uint8).reshape(-1, 4, 6, 1)
    assert np.array_equal(images, raw)
    assert labels.tolist() == np.fromfile(job.dataset_folder / "train.labels", "<i4").tolist()
    assert dataset.split("test").picture(0) == dataset.split("test").arrays()[0][0].tobytes()
    assert dataset.normalize(images).max() <= 1.0
    assert dataset.labels == ["class-0", "class-1"]


def test_an_empty_split_is_empty(job: lepton_job.Job) -> None:
    for name in ("validation.images", "validation.labels"):
        (job.dataset_folder / name).write_bytes(b"")
    images, labels = lepton_job.Dataset(job.dataset_folder).split("validation").arrays()
    assert (images.shape, labels.shape) == ((0, 4, 6, 1), (0,))


def test_progress_fits_the_contract_with_numbers_that_are_none(job: lepton_job.Job) -> None:
    lepton_job.report_progress(phase="Training", epochs=4, loss=math.nan)
    for epoch in range(1, 40):
        lepton_job.report_epoch(
            epoch,
            loss=np.float32(0.5),  # type: ignore[arg-type]
            accuracy=0.75,
            seconds=2.0,
            images=100,
            validation_loss=math.inf,
        )
    told = written(job)
    assert (told.phase, told.epoch, told.images, told.images_per_second) == ("Training", 39, 3900, 50.0)
    assert [row.epoch for row in told.history] == list(range(8, 40))
    assert told.history[-1] == Epoch(epoch=39, loss=0.5, accuracy=0.75, seconds=2, images_per_second=50)


def test_steps_alone_are_not_written_each_time(job: lepton_job.Job) -> None:
    lepton_job.report_progress(phase="Training", step=1)
    lepton_job.report_progress(step=2)
    assert written(job).step == 1
    lepton_job.report_progress(phase="Evaluating")
    assert (written(job).phase, written(job).step) == ("Evaluating", 2)


def test_a_loss_that_is_no_number_ends_the_job_with_its_place(job: lepton_job.Job, tmp_path: Path) -> None:
    lepton_job.check_finite(0.5, 1)
    with pytest.raises(SystemExit) as found:
        lepton_job.check_finite(math.nan, 2, 17)
    assert found.value.code == 3
    told = parse_outcome((tmp_path / "termination").read_text())
    assert told is not None
    assert (told.reason, told.terminal) == ("Diverged", True)
    assert "step 17 of epoch 2" in str(told.message)


def test_checkpoints_appear_whole_and_old_ones_go(job: lepton_job.Job) -> None:
    for epoch in (1, 2, 3):
        with lepton_job.new_checkpoint(job, f"epoch-{epoch:04d}") as path:
            path.mkdir()
            (path / "weights").write_text(str(epoch))
    (job.checkpoints_folder / "notes.json").touch()
    with pytest.raises(RuntimeError), lepton_job.new_checkpoint(job, "epoch-0004") as path:  # noqa: PT012
        path.write_text("half")
        raise RuntimeError("killed")
    kept = lepton_job.checkpoints(job, "epoch-*")
    assert [path.name for path in kept] == ["epoch-0002", "epoch-0003"]
    assert (kept[-1] / "weights").read_text() == "3"
    assert (job.checkpoints_folder / "notes.json").exists()


def test_the_result_fits_the_contract_and_none_is_written_of_a_figure_that_is_none(
    job: lepton_job.Job,
) -> None:
    file = job.output_folder / "result.json"
    with pytest.raises(ValueError, match="Out of range"):
        lepton_job.save_result(job, **RESULT | {"test_loss": np.float32("nan")})
    assert not file.exists()
    lepton_job.save_result(job, **RESULT, top_k_accuracy=1.0, per_label={"class-0": {"recall": 1.0}})
    result = OwnResult.model_validate_json(file.read_text())
    assert (result.test_accuracy, result.top_k_accuracy) == (0.9, 1.0)
    assert result.python == sys.version.split()[0]
    assert written(job).phase == "Done"


def test_a_version_that_is_there_ends_the_program_well(job: lepton_job.Job) -> None:
    lepton_job.end_if_published()
    Path(os.environ["LEPTON_PUBLISHED_FILE"]).touch()
    with pytest.raises(SystemExit) as found:
        lepton_job.end_if_published()
    assert found.value.code == 0


def test_workers_wait_for_each_others_programs_and_for_the_chief(
    job: lepton_job.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`Starting` is what the report says before the program has told anything."""
    file = tmp_path / "peer.json"
    other = ReportServer(Report(owner_uid="job-1", attempt=2, index=1), port=0)
    phases = iter(("", '{"phase": "Waiting"}'))

    def meanwhile(_seconds: float) -> None:
        file.write_text(next(phases))
        Follower(file, other, 4).look()

    monkeypatch.setattr(lepton_job.time, "sleep", meanwhile)
    with other:
        peers = ["localhost:1", f"localhost:{other.port}"]
        lepton_job.wait_for_peers(lepton_job.Job(**{**vars(job), "peers": peers}))
        assert written(job).phase == "Waiting"
        phases = iter(('{"phase": "Done"}',))
        second = {"index": 1, "peers": [f"localhost:{other.port}", "localhost:1"]}
        lepton_job.wait_for_chief(lepton_job.Job(**{**vars(job), **second}))
        assert other.current.phase == "Done"


def test_a_worker_that_stays_away_is_named(
    job: lepton_job.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lepton_job.time, "sleep", lambda _seconds: None)
    stranger = ReportServer(Report(owner_uid="job-1", attempt=1, index=1, phase="Training"), port=0)
    told = {"peers": ["localhost:1", f"localhost:{stranger.port}"], "startup_deadline_seconds": 0.2}
    with stranger, pytest.raises(SystemExit) as found:
        lepton_job.wait_for_peers(lepton_job.Job(**{**vars(job), **told}))
    assert found.value.code == 1
    outcome = parse_outcome((tmp_path / "termination").read_text())
    assert outcome is not None
    assert (outcome.reason, outcome.terminal) == ("PeersNotReady", False)
    assert "workers 1 did not start" in str(outcome.message)


def test_the_reports_container_tells_of_it_and_ends_well_with_the_pod(job: lepton_job.Job, pod: Pod) -> None:
    code = {"image": "a", "command": ["b"]}
    names = {"dataset_name": "d", "dataset_key": "k", "workers": 2}
    task = OwnCodeTask.model_validate(
        {"job": job.name, "job_uid": job.uid, "attempt": 2, "code": code} | names
    )
    [port] = free_ports(1)
    lepton_job.report_progress(phase="Training", epoch=1, loss=0.5)
    environment = {
        "PYTHONPATH": str(WORKLOADS),
        "LEPTON_TASK": task.to_json(),
        "LEPTON_REPORT_PORT": str(port),
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "lepton_workloads.own.report"],
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        report = None
        while process.poll() is None and (report is None or report.phase == "Starting"):
            report = fetch_report(f"localhost:{port}")
        assert report is not None
        assert (report.owner_uid, report.attempt, report.epoch, report.loss) == ("job-1", 2, 1, 0.5)
    finally:
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
