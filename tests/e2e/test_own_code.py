"""A program of the user's trains: the example, failures that it names, a gang, and going on after a lost pod."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.display import DemoError
from demo.predict import held_out
from tests.e2e.cluster import Namespace, Object, dataset, training_job, until
from tests.e2e.workers import epoch, pods_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "03-own-network"
NAME = "digits-residual"
RESULT = "test_accuracy=0.5, test_loss=1.0, train_accuracy=0.5, train_loss=1.0, epochs=1"

MEETING = f"""
from lepton_workloads.own import lepton_job as lepton
job = lepton.read_job()
lepton.wait_for_peers(job)
lepton.report_progress(phase="Training", epoch=1, epochs=1)
print("met", len(job.peers), "as", job.index, flush=True)
if job.is_chief:
    (job.output_folder / "weights.txt").write_text("1 2 3")
    lepton.save_result(job, {RESULT})
else:
    lepton.wait_for_chief(job)
"""

NAMED = """
from lepton_workloads.own import lepton_job as lepton
lepton.fail("InvalidData", "no picture shows a cat: add some")
"""

WITHOUT_RESULT = "print('done')"


def example(images: dict[str, str], **training: Any) -> list[Object]:
    """The example's objects, with this cluster's trainer image."""
    objects = [yaml.safe_load(path.read_text()) for path in sorted(EXAMPLE.glob("*.yaml"))]
    for one in objects:
        if one["kind"] == "LeptonTrainingJob":
            one["spec"]["network"]["custom"]["image"] = images["trainer"]
            one["spec"]["training"] |= training
    return objects


def program(name: str, code: str, images: dict[str, str], **spec: Any) -> Object:
    """A training job whose program is the code."""
    custom = {"image": images["trainer"], "command": ["python", "-u", "-c", code]}
    return training_job(name, network={"type": "custom", "custom": custom}, **spec)


def logs(namespace: Namespace, name: str, attempt: int) -> str:
    """What own code printed in an attempt; empty while it has not started."""
    pods = pods_of(namespace, name, attempt)
    try:
        return "".join(namespace.run("logs", pod["metadata"]["name"], "-c", "train") for pod in pods)
    except DemoError:
        return ""


@pytest.fixture(scope="module")
def trained(shared: Namespace, images: dict[str, str]) -> Namespace:
    """A namespace in which the example has come true."""
    shared.apply(*example(images))
    shared.wait(f"ltj/{NAME}", "Succeeded", 300)
    shared.wait(f"lm/{NAME}", "Ready")
    return shared


def test_the_example_is_told_of_like_any_training(trained: Namespace, images: dict[str, str]) -> None:
    status = trained.get("ltj", NAME)["status"]
    assert status["metrics"]["testAccuracy"] >= 0.9
    assert status["progress"]["epoch"] == "15/15"
    assert status["lineage"]["image"] == images["trainer"]
    assert status["lineage"]["tensorflow"].startswith("2.")
    data = trained.get("lds", "grey-digits")["status"]
    assert status["lineage"]["datasetDigest"] == data["digest"]
    (pod,) = trained.list("pods", f"lepton.ai/name={NAME},lepton.ai/kind=LeptonTrainingJob")
    assert pod["status"]["phase"] == "Succeeded"


def test_what_it_left_classifies_held_out_pictures(trained: Namespace, tmp_path: Path) -> None:
    right = 0
    with trained.http(NAME) as http:
        for picture in held_out(tmp_path):
            kind = "image/jpeg" if picture.suffix == ".jpg" else "image/png"
            code, answer = http.call("/classify", picture.read_bytes(), kind)
            assert code == 200, answer
            right += answer["predictions"][0]["label"] == picture.name[0]
    assert right >= 8


def test_8_bits_that_it_never_made_are_not_served(trained: Namespace) -> None:
    """The version goes on in 32 bits, and answers, until the spec is one that can be met."""
    before = trained.get("lm", NAME)["status"]["version"]
    trained.run("patch", "lm", NAME, "--type=merge", "-p", '{"spec": {"precision": "int8"}}')
    row = trained.wait_reason("lm", NAME, "QuantizationGateNotPassed")
    assert row["status"] == "False"
    assert "precision: float32" in row["message"]
    assert trained.get("lm", NAME)["status"]["version"] == before
    with trained.http(NAME) as http:
        assert http.call("/readyz")[0] == 200
    trained.run("patch", "lm", NAME, "--type=merge", "-p", '{"spec": {"precision": "float32"}}')
    trained.wait(f"lm/{NAME}", "Ready")


def test_own_code_can_write_no_version_of_others(trained: Namespace, images: dict[str, str]) -> None:
    # All on stderr: what two streams say comes in no order.
    code = "import os, sys; print(sorted(os.listdir('/lepton')), file=sys.stderr); open('/lepton/dataset/x', 'w')"
    trained.apply(dataset(), program("curious", code, images, backoffLimit=0))
    row = trained.wait_reason("ltj", "curious", "BackoffLimitExceeded", "Succeeded", 120)
    assert "Read-only file system" in row["message"]
    assert "['checkpoints', 'dataset', 'output', 'progress']" in logs(trained, "curious", 1)


@pytest.mark.parametrize(
    ("name", "code", "reason", "texts"),
    [
        ("named", NAMED, "InvalidData", ("no picture shows a cat: add some",)),
        ("silent", WITHOUT_RESULT, "InvalidSpec", ("left no result.json in /lepton/output: write one",)),
        ("wrong", "raise SystemExit(3)", "ContainerFailed", ("container train", "exit code 3")),
    ],
)
def test_a_program_that_can_not_succeed_ends_the_job_with_a_reason(
    trained: Namespace, images: dict[str, str], name: str, code: str, reason: str, texts: tuple[str, ...]
) -> None:
    trained.apply(dataset(), program(name, code, images))
    trained.wait(f"ltj/{name}", "Succeeded=False", 120)
    row = trained.condition("ltj", name, "Succeeded")
    assert row["reason"] == reason
    for text in texts:
        assert text in row["message"]
    assert trained.get("ltj", name)["status"]["attempt"] == 1


def test_an_image_that_is_not_there_is_the_users_to_correct(trained: Namespace) -> None:
    custom = {"image": "localhost/nobody/nothing:1", "command": ["train"]}
    trained.apply(dataset(), training_job("pictureless", network={"type": "custom", "custom": custom}))
    row = trained.wait_reason("ltj", "pictureless", "ImagePullFailed", "Succeeded", 120)
    assert "localhost/nobody/nothing:1" in row["message"]
    trained.run("delete", "ltj", "pictureless")


def test_two_programs_meet_and_the_chiefs_output_is_the_version(
    trained: Namespace, images: dict[str, str]
) -> None:
    trained.apply(dataset(), program("pair", MEETING, images, workers=2))
    trained.wait("ltj/pair", "Succeeded", 180)
    status = trained.get("ltj", "pair")["status"]
    assert (status["workers"], status["attempt"], status["accuracy"]) == (2, 1, 0.5)
    told = logs(trained, "pair", 1)
    assert "met 2 as 0" in told
    assert "met 2 as 1" in told
    digest = status["result"]["digest"]
    code = f"import os; print(sorted(os.listdir('/data/models/{digest}')))"
    listed = trained.run_python("looks", images["server"], code, "lepton-store")
    assert json.loads(listed.replace("'", '"')) == [
        "SHA256SUMS",
        "lineage.json",
        "result.json",
        "weights.txt",
    ]


def test_after_a_lost_pod_the_program_goes_on_from_its_checkpoint(
    namespace: Namespace, images: dict[str, str]
) -> None:
    objects = [one for one in example(images, epochs=2000) if one["kind"] != "LeptonModel"]
    namespace.apply(*objects)
    until(lambda: epoch(namespace, NAME) >= 2, "two epochs", 240)
    (pod,) = pods_of(namespace, NAME)
    namespace.run("delete", "pod", pod["metadata"]["name"], "--grace-period=1")
    until(lambda: "Goes on after epoch" in logs(namespace, NAME, 2), "that it goes on", 180)
    namespace.run("delete", f"ltj/{NAME}", "lds/grey-digits")
    namespace.wait_empty()
