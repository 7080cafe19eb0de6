"""How a training ends: gate, folds, report, warm start, clearing away; and one that waits in a queue."""

import base64
import gzip
import statistics
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.browser import PHONE, chromium, shown
from tests.e2e.cluster import Namespace, dataset, model, training_job, until
from tests.e2e.workers import pods_of

EXAMPLE = Path(__file__).parents[2] / "examples" / "04-judged-training"
QUEUE = "kueue.x-k8s.io/queue-name"


def gate(metric: str, **bound: Any) -> dict[str, Any]:
    """An evaluation with that gate."""
    return {"gate": {"metric": metric, **bound}}


@pytest.fixture(scope="module")
def judged(shared: Namespace) -> Namespace:
    """A namespace in which trainings of each kind have come to their end."""
    shared.apply(
        *(yaml.safe_load(path.read_text()) for path in sorted(EXAMPLE.glob("*.yaml"))),
        dataset(),
        training_job(
            "good", training={"epochs": 4, "batchSize": 64}, evaluation=gate("accuracy", atLeast=0.5)
        ),
        training_job("bad", evaluation=gate("recall", label="7", atLeast=0.9999)),
        training_job(
            "diverging",
            network={"convolutions": [16, 16, 16], "dense": [64, 64], "activation": "elu"},
            training={"epochs": 3, "batchSize": 64, "optimizer": "sgd", "learningRate": 100},
        ),
        model("of-good", "good", replicas=1),
        model("of-bad", "bad", replicas=1),
    )
    for job in ("good", "digits-judged", "digits-fine-tuned"):
        shared.wait(f"ltj/{job}", "Succeeded", 300)
    for job in ("bad", "diverging"):
        shared.wait(f"ltj/{job}", "Succeeded=False", 300)
    return shared


def test_a_passed_gate_is_told_and_the_model_serves(judged: Namespace) -> None:
    told = judged.get("ltj", "good")["status"]["evaluation"]["gate"]
    assert told["passed"] is True
    assert told["demand"] == "accuracy at least 0.5"
    assert told["value"] == pytest.approx(judged.get("ltj", "good")["status"]["accuracy"], abs=1e-4)
    judged.wait("lm/of-good", "Ready", 120)


def test_what_does_not_pass_is_kept_and_not_served(judged: Namespace) -> None:
    row = judged.condition("ltj", "bad", "Succeeded")
    assert (row["status"], row["reason"]) == ("False", "GateNotPassed")
    assert "recall of 7 at least 0.9999" in row["message"]
    status = judged.get("ltj", "bad")["status"]
    assert status["evaluation"]["gate"]["passed"] is False
    assert status["result"]["digest"]
    row = judged.wait_reason("lm", "of-bad", "TrainingJobFailed")
    assert "GateNotPassed" in row["message"]
    assert not judged.find("deployment", "of-bad")


def test_each_fold_is_a_job_and_the_mean_is_theirs(judged: Namespace) -> None:
    status = judged.get("ltj", "digits-judged")["status"]
    told = status["evaluation"]
    assert told["completedFolds"] == "3/3"
    found = [fold["accuracy"] for fold in told["folds"]]
    assert told["meanAccuracy"] == pytest.approx(statistics.mean(found), abs=1e-5)
    assert told["standardDeviation"] == pytest.approx(statistics.stdev(found), abs=1e-5)
    splits = judged.get("lds", "small-digits")["status"]["splits"]
    assert sum(fold["samples"] for fold in told["folds"]) == splits["train"] + splits["validation"]
    assert told["gate"]["value"] == pytest.approx(told["meanAccuracy"], abs=1e-4)
    for fold in range(3):
        assert judged.find("job", f"digits-judged-f{fold}-a1")
    message = judged.condition("ltj", "digits-judged", "Succeeded")["message"]
    assert "over 3 folds" in message


def test_a_training_that_diverges_says_at_which_step_and_is_not_tried_again(judged: Namespace) -> None:
    row = judged.condition("ltj", "diverging", "Succeeded")
    assert row["reason"] == "Diverged"
    assert "step" in row["message"]
    assert "lower the learning rate (now 100)" in row["message"]
    status = judged.get("ltj", "diverging")["status"]
    assert status["attempt"] == 1
    assert "result" not in status


def test_a_warm_start_waits_for_its_version_and_keeps_frozen_layers(
    judged: Namespace, images: dict[str, str]
) -> None:
    first, second = (judged.get("ltj", job)["status"] for job in ("digits-judged", "digits-fine-tuned"))
    assert second["lineage"]["warmStart"] == first["result"]["digest"]
    code = f"""
import os
os.environ["KERAS_HOME"] = "/tmp"
import keras
first, second = (
    keras.saving.load_model(f"/data/models/{{digest}}/model.keras", compile=False)
    for digest in ({first["result"]["digest"]!r}, {second["result"]["digest"]!r})
)
for name in ("convolution_0", "dense_0"):
    one, other = (network.get_layer(name).get_weights() for network in (first, second))
    print(name, all((a == b).all() for a, b in zip(one, other)))
"""
    told = judged.run_python("compares", images["trainer"], code, "lepton-store")
    assert {"convolution_0 True", "dense_0 False"} <= set(told.splitlines())


def test_the_report_opens_on_a_phone_without_the_network(
    judged: Namespace, images: dict[str, str], tmp_path: Path
) -> None:
    digest = judged.get("ltj", "good")["status"]["result"]["digest"]
    code = f"""
import base64, gzip
print(base64.b64encode(gzip.compress(open("/data/models/{digest}/report.html", "rb").read())).decode())
"""
    html = gzip.decompress(
        base64.b64decode(judged.run_python("reads", images["server"], code, "lepton-store"))
    )
    with chromium() as browser, shown(browser, tmp_path) as show:
        opened = show(html.decode(), PHONE)
        opened.check(PHONE[0])
        text = opened.page.inner_text("body")
        pictures = opened.all("[e.complete, e.naturalWidth]", "img")
    assert judged.get("lds", "digits")["status"]["digest"][:12] in text
    assert "accuracy at least 0.5" in text
    assert pictures
    assert all(complete and width for complete, width in pictures)


def test_after_its_time_what_ran_is_cleared_away_and_the_version_stays(judged: Namespace) -> None:
    judged.apply(training_job("brief", ttlSecondsAfterFinished=0))
    judged.wait("ltj/brief", "Succeeded", 180)
    until(lambda: not judged.find("job", "brief-train-a1"), "that its Job goes", 30)
    until(lambda: not judged.find("service", "brief-train"), "that its Service goes", 30)
    until(lambda: not pods_of(judged, "brief"), "that its pods go", 60)
    before = judged.get("ltj", "brief")
    judged.apply(model("of-brief", "brief", replicas=1))
    judged.wait("lm/of-brief", "Ready", 120)
    after = judged.get("ltj", "brief")
    assert after["metadata"]["resourceVersion"] == before["metadata"]["resourceVersion"]
    assert after["status"]["attempt"] == 1


def test_a_queue_starts_and_stops_the_job(judged: Namespace) -> None:
    queued = training_job("queued", training={"epochs": 400, "batchSize": 64})
    queued["metadata"]["labels"] = {QUEUE: "team"}
    judged.apply(queued)
    row = judged.wait_reason("ltj", "queued", "Queued", "Succeeded")
    assert "queue team" in row["message"]
    job = judged.get("job", "queued-train-a1")
    assert job["spec"]["suspend"] is True
    assert job["metadata"]["labels"][QUEUE] == "team"
    assert not pods_of(judged, "queued")
    for suspend, reason in (("false", "Training"), ("true", "Queued")):
        patch = f'{{"spec": {{"suspend": {suspend}}}}}'
        judged.run("patch", "job", "queued-train-a1", "--type=merge", "-p", patch)
        judged.wait_reason("ltj", "queued", reason, "Succeeded", 90)
    status = judged.get("ltj", "queued")["status"]
    assert (status["attempt"], status.get("failures", 0), status.get("disruptions", 0)) == (1, 0, 0)
    judged.run("delete", "ltj", "queued")
