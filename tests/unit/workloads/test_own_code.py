"""What Lepton does around own code: nothing that the program leaves is trusted, and each refusal says what to write."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lepton_workloads.contract.judgement import Gate
from lepton_workloads.contract.outcome import Failure, Outcome
from lepton_workloads.contract.own_code import MAX_FILE_BYTES, OwnCodeTask, OwnResult
from lepton_workloads.own import check, publish
from lepton_workloads.termination import WorkloadError

from .conftest import Pod

TINY = Path(__file__).parents[1] / "serving/data/tiny.tflite"
RESULT = {"testAccuracy": 0.9, "testLoss": 0.3, "trainAccuracy": 1, "trainLoss": 0.01, "epochs": 3}


@pytest.fixture
def output(pod: Pod) -> Path:
    """The output of own code, which has ended well with a result and no model."""
    for folder in ("output", "progress"):
        (pod.root / "lepton" / folder).mkdir()
    folder = pod.root / "lepton/output"
    (folder / "result.json").write_text(json.dumps(RESULT))
    tell(pod)
    return folder


def tell(pod: Pod, **fields: Any) -> None:
    values = {
        "job": "ns/own",
        "jobUid": "job-1",
        "attempt": 1,
        "workers": 2,
        "datasetName": "d",
        "datasetKey": "cd" * 32,
        "code": {"image": "team/trainer:7", "command": ["train"]},
    }
    pod.monkeypatch.setenv("LEPTON_TASK", OwnCodeTask.model_validate(values | fields).to_json())


def refused(run: Callable[[], Outcome]) -> tuple[Failure, bool, str]:
    with pytest.raises(WorkloadError) as found:
        run()
    return found.value.reason, found.value.terminal, found.value.message


# -- publishing --------------------------------------------------------------------------------------


def test_files_of_any_kind_become_a_version(pod: Pod, output: Path) -> None:
    (output / "weights").mkdir()
    (output / "weights/a.bin").write_bytes(b"123")
    result = publish.main().train
    assert result is not None
    assert (result.test_accuracy, result.epochs, result.recovered) == (0.9, 3, False)
    folder = pod.models / result.digest
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert names == {"SHA256SUMS", "lineage.json", "result.json", "weights/a.bin"}
    assert (folder / "weights/a.bin").read_bytes() == b"123"
    assert [path.name for path in pod.models.iterdir()] == [result.digest]


def test_a_result_whose_report_was_lost_is_told_again_whatever_own_code_left(pod: Pod, output: Path) -> None:
    first = publish.main().train
    assert first is not None
    (output / "result.json").write_text(json.dumps(RESULT | {"testAccuracy": 0.1}))
    assert publish.main().train == first.model_copy(update={"recovered": True})


def test_only_the_chief_publishes(pod: Pod, output: Path) -> None:
    pod.monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert publish.main() == Outcome()
    assert list(pod.models.iterdir()) == []


def link(folder: Path) -> None:
    (folder / "model.tflite").symlink_to("/etc/passwd")


def link_to_folder(folder: Path) -> None:
    (folder / "all").symlink_to("/etc")


def pipe(folder: Path) -> None:
    os.mkfifo(folder / "pipe")


def line_break(folder: Path) -> None:
    (folder / "a\nb").touch()


def no_text(folder: Path) -> None:
    Path(os.fsdecode(bytes(folder) + b"/\xff")).touch()


def many(folder: Path) -> None:
    for number in range(publish.MAX_FILES + 1):
        (folder / str(number)).touch()


def large(folder: Path) -> None:
    with (folder / "large").open("wb") as file:
        file.truncate(publish.MAX_OUTPUT_BYTES + 1)


def of_lepton(folder: Path) -> None:
    (folder / "SHA256SUMS").touch()


def no_json(folder: Path) -> None:
    (folder / "result.json").write_text("accuracy: 1")


def no_number(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps(RESULT | {"testLoss": float("nan")}))


def unknown_figure(folder: Path) -> None:
    (folder / "result.json").write_text(json.dumps(RESULT | {"testAccurracy": 1}))


def huge_result(folder: Path) -> None:
    (folder / "result.json").write_text(" " * (MAX_FILE_BYTES + 1))


def linked_result(folder: Path) -> None:
    (folder / "result.json").unlink()
    (folder / "result.json").symlink_to(folder / "other.json")


def no_result(folder: Path) -> None:
    (folder / "result.json").unlink()


def no_model(folder: Path) -> None:
    (folder / "model.tflite").write_bytes(b"no model at all")


def signature(folder: Path, height: int = 6, labels: str = "abcd", outputs: int = 4) -> None:
    """The small model's: pictures (6, 8, 3) to four labels."""
    (folder / "model.tflite").write_bytes(TINY.read_bytes())
    picture = {"height": height, "width": 8, "channels": 3}
    values = {
        "inputs": [{"name": "image", "shape": [-1, height, 8, 3]}],
        "outputs": [{"name": "probabilities", "shape": [-1, outputs]}],
        "labels": list(labels),
        "preprocessing": {"picture": picture, "normalization": {}, "decoder": "none"},
    }
    (folder / "signature.json").write_text(json.dumps(values))


def other_shape(folder: Path) -> None:
    signature(folder, height=7)


def other_labels(folder: Path) -> None:
    signature(folder, labels="abcdefg", outputs=7)


def bad_signature(folder: Path) -> None:
    signature(folder, labels="a")


def with_dataset(pod: Pod) -> None:
    """Pictures of two classes, prepared, where own code finds them."""
    pod.image_folder(classes=2)
    key = pod.prepare(picture={"height": 4, "width": 4, "channels": 1}).prepare
    assert key is not None
    (pod.root / "lepton/dataset").symlink_to(pod.datasets / key.key)


@pytest.mark.parametrize(
    ("spoil", "reason", "text"),
    [
        (link, "InvalidData", "model.tflite in the output is a link or no regular file: write a copy"),
        (link_to_folder, "InvalidData", "all in the output is a link"),
        (pipe, "InvalidData", "pipe in the output is a link or no regular file"),
        (line_break, "InvalidData", "write names of printable characters only"),
        (no_text, "InvalidData", "write names of printable characters only"),
        (many, "InvalidData", "more than 10000 files and folders: write fewer"),
        (large, "InvalidData", "write at most 4294967296"),
        (
            of_lepton,
            "InvalidData",
            "SHA256SUMS in the output is what Lepton writes: give your file another name",
        ),
        (no_json, "InvalidData", "result.json can't be read"),
        (no_number, "InvalidData", "testLoss"),
        (unknown_figure, "InvalidData", "testAccurracy"),
        (huge_result, "InvalidData", "more than 65536 bytes"),
        (no_result, "InvalidSpec", "left no result.json in /lepton/output: write one; docs/own-code.md"),
        (
            no_model,
            "ExportFailed",
            "write a LiteRT model of built-in operations, float32, from pictures [-1, 4",
        ),
        (other_shape, "ExportFailed", "not those of signature.json"),
        (other_labels, "ExportFailed", "one probability for each of 7 labels"),
        (bad_signature, "InvalidData", "the output's shape is not one number for each label"),
    ],
)
def test_what_can_not_be_a_version_is_refused_and_leaves_nothing(
    pod: Pod, output: Path, spoil: Callable[[Path], None], reason: str, text: str
) -> None:
    with_dataset(pod)
    tell(pod)
    spoil(output)
    found, terminal, message = refused(publish.main)
    assert (found, terminal) == (reason, True)
    assert text in message
    assert list(pod.models.iterdir()) == []


def test_a_linked_result_is_not_followed(pod: Pod, output: Path) -> None:
    linked_result(output)
    assert refused(publish.main)[0] == Failure.INVALID_DATA


def test_a_model_with_its_own_signature_is_published(pod: Pod, output: Path) -> None:
    signature(output)
    result = publish.main().train
    assert result is not None
    assert (pod.models / result.digest / "signature.json").read_bytes() == (
        output / "signature.json"
    ).read_bytes()


def test_a_saved_model_alone_gets_its_signature(pod: Pod, output: Path) -> None:
    with_dataset(pod)
    tell(pod)
    (output / "saved_model").mkdir()
    (output / "saved_model" / "saved_model.pb").write_bytes(b"for TensorFlow")
    result = publish.main().train
    assert result is not None
    written = json.loads((pod.models / result.digest / "signature.json").read_text())
    assert written["inputs"][0]["shape"] == [-1, 4, 4, 1]
    assert len(written["labels"]) == 2


def test_a_gate_gets_its_figure_or_the_job_says_which_is_missing(pod: Pod, output: Path) -> None:
    tell(pod, gate={"metric": "recall", "label": "cat", "atLeast": 0.9})
    reason, terminal, message = refused(publish.main)
    assert (reason, terminal) == (Failure.INVALID_SPEC, True)
    assert (
        "asks for recall of cat at least 0.9, and result.json has none: write perLabel, cat, recall"
        in message
    )
    (output / "result.json").write_text(json.dumps(RESULT | {"perLabel": {"cat": {"recall": 0.95}}}))
    result = publish.main().train
    assert result is not None
    assert result.gate_value == 0.95


@pytest.mark.parametrize(
    ("metric", "figure"),
    [
        ("accuracy", 0.9),
        ("loss", 0.3),
        ("topKAccuracy", 0.99),
        ("expectedCalibrationError", 0.02),
        ("f1", None),
    ],
)
def test_what_a_gate_means_by_its_metric(metric: str, figure: float | None) -> None:
    result = OwnResult.model_validate(RESULT | {"topKAccuracy": 0.99, "expectedCalibrationError": 0.02})
    assert result.figure(Gate.model_validate({"metric": metric, "atLeast": 0})) == figure


# -- checking ----------------------------------------------------------------------------------------


def test_own_code_starts_on_whole_data_only(pod: Pod, output: Path) -> None:
    reason, terminal, message = refused(check.main)
    assert (reason, terminal) == (Failure.DATASET_NOT_READY, False)
    assert "is not in the store" in message
    assert (pod.checkpoints / "own").is_dir()
