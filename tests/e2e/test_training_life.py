"""Killed, frozen, evicted or suspended: a training goes on from its checkpoint and ends in the very same weights."""

import json
import signal

import pytest

from tests.e2e.cluster import Namespace, Object, dataset, training_job, until
from tests.e2e.workers import epoch, log_of, pods_of, send, until_epoch

EPOCHS = 60
NETWORK = {"convolutions": [16, 32], "dense": [32], "dropout": 0.2}
TRAINING = {"epochs": EPOCHS, "batchSize": 64, "augment": {"flip": "horizontal"}}
"""Everything that is drawn at random is on: order, dropout, augmentation."""


def long_one(name: str, **spec: object) -> Object:
    """A training that lasts long enough to be disturbed."""
    return training_job(name, network=NETWORK, training=TRAINING, **spec)


@pytest.fixture(scope="module")
def lives(shared: Namespace) -> Namespace:
    """A namespace with prepared data, an undisturbed training of each size, and one of each that is frozen."""
    shared.apply(dataset())
    shared.wait("lds/digits", "Ready")
    shared.apply(long_one("calm"), long_one("calm-pair", workers=2))
    shared.wait("ltj/calm", "Succeeded", 300)
    shared.wait("ltj/calm-pair", "Succeeded", 300)
    # Those that miss a frozen worker take a minute or two to be sure: meanwhile the other tests run.
    for name, workers in (("frozen", 1), ("frozen-pair", 2)):
        shared.apply(long_one(name, workers=workers))
        until_epoch(shared, name)
        send(signal.SIGSTOP, pods_of(shared, name)[-1])
    return shared


def weights(namespace: Namespace, job: str) -> str:
    """Digest of the weights of a training that succeeds."""
    namespace.wait(f"ltj/{job}", "Succeeded", 300)
    return str(namespace.get("ltj", job)["status"]["result"]["weightsDigest"])


def event_of(namespace: Namespace, job: str, reason: str) -> str:
    """Waits for an Event about a training job; what it says."""

    def found() -> str:
        for event in namespace.list("events"):
            about = event["involvedObject"]
            if (about["kind"], about["name"], event["reason"]) == ("LeptonTrainingJob", job, reason):
                return str(event["message"])
        return ""

    return str(until(found, f"{reason} of {job}", 300))


def went_on_from(namespace: Namespace, job: str, attempt: int = 2) -> int:
    """The epoch after which an attempt went on."""
    (line,) = log_of(namespace, pods_of(namespace, job, attempt)[0], "Resumed")
    return int(line["epoch"])


def test_the_same_spec_gives_the_same_weights(lives: Namespace) -> None:
    lives.apply(long_one("again"))
    assert weights(lives, "again") == weights(lives, "calm")


def test_a_gang_learns_what_one_worker_learns(lives: Namespace) -> None:
    alone, pair = (lives.get("ltj", job)["status"]["metrics"] for job in ("calm", "calm-pair"))
    assert pair["trainLoss"] == pytest.approx(alone["trainLoss"], rel=0.2)
    assert pair["testAccuracy"] == pytest.approx(alone["testAccuracy"], abs=0.03)
    told = {log_of(lives, pod, "Trained")[0]["weights"] for pod in pods_of(lives, "calm-pair")}
    assert told == {lives.get("ltj", "calm-pair")["status"]["result"]["weightsDigest"]}


def test_a_killed_worker_is_counted_and_costs_no_accuracy(lives: Namespace) -> None:
    lives.apply(long_one("killed"))
    until_epoch(lives, "killed")
    reached = epoch(lives, "killed")
    send(signal.SIGKILL, pods_of(lives, "killed")[0])
    row = lives.wait_reason("ltj", "killed", "ContainerFailed", "Succeeded")
    assert "exit code 137 (SIGKILL)" in row["message"]
    assert weights(lives, "killed") == weights(lives, "calm")
    status = lives.get("ltj", "killed")["status"]
    assert (status["attempt"], status["failures"], status.get("disruptions", 0)) == (2, 1, 0)
    assert went_on_from(lives, "killed") >= reached - 1


def test_a_killed_member_ends_the_gang_and_both_go_on(lives: Namespace) -> None:
    lives.apply(long_one("killed-pair", workers=2))
    until_epoch(lives, "killed-pair")
    send(signal.SIGKILL, pods_of(lives, "killed-pair")[1])
    assert weights(lives, "killed-pair") == weights(lives, "calm-pair")
    status = lives.get("ltj", "killed-pair")["status"]
    assert (status["attempt"], status["failures"]) == (2, 1)
    assert went_on_from(lives, "killed-pair") >= 1


def test_an_eviction_is_not_counted(lives: Namespace) -> None:
    lives.apply(long_one("evicted", backoffLimit=0))
    until_epoch(lives, "evicted")
    name = pods_of(lives, "evicted")[0]["metadata"]["name"]
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}}
    path = f"/api/v1/namespaces/{lives.name}/pods/{name}/eviction"
    lives.run("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
    assert weights(lives, "evicted") == weights(lives, "calm")
    status = lives.get("ltj", "evicted")["status"]
    assert (status["attempt"], status.get("failures", 0), status["disruptions"]) == (2, 0, 1)


def test_suspended_nothing_runs_and_nothing_is_lost(lives: Namespace) -> None:
    lives.apply(long_one("paused", workers=2))
    until_epoch(lives, "paused")
    lives.run("patch", "ltj", "paused", "--type=merge", "-p", '{"spec": {"suspend": true}}')
    lives.wait_reason("ltj", "paused", "Suspended", "Succeeded")
    until(lambda: not pods_of(lives, "paused"), "that its pods are gone")
    status = lives.get("ltj", "paused")["status"]
    reached = epoch(lives, "paused")
    assert reached >= 2
    assert status["pausedSince"]
    assert not lives.find("job", "paused-train-a1")
    lives.run("patch", "ltj", "paused", "--type=merge", "-p", '{"spec": {"suspend": false}}')
    assert weights(lives, "paused") == weights(lives, "calm-pair")
    status = lives.get("ltj", "paused")["status"]
    assert (status["attempt"], status.get("failures", 0), status.get("disruptions", 0)) == (2, 0, 0)
    assert "pausedSince" not in status
    assert went_on_from(lives, "paused") >= reached


def test_while_it_trains_the_table_tells_how_far_it_is(lives: Namespace) -> None:
    lives.apply(long_one("watched"))
    until_epoch(lives, "watched")
    progress = lives.get("ltj", "watched")["status"]["progress"]
    assert progress["phase"] == "Training"
    assert progress["imagesPerSecond"] > 0
    assert progress["etaSeconds"] >= 0
    assert 0 <= progress["validationAccuracy"] <= 1
    assert progress["steps"] == 23
    line = lives.run("get", "ltj", "watched", "--no-headers").split()
    assert line[1:3] == ["Unknown", "Training"]
    assert line[3].endswith(f"/{EPOCHS}")


def test_a_frozen_member_is_named_and_ended(lives: Namespace) -> None:
    assert "worker 1" in event_of(lives, "frozen-pair", "PeersNotReady")
    assert weights(lives, "frozen-pair") == weights(lives, "calm-pair")
    assert lives.get("ltj", "frozen-pair")["status"]["failures"] == 1


def test_a_frozen_worker_without_peers_is_ended_by_its_probe(lives: Namespace) -> None:
    assert "liveness probe (GET /healthz) failed" in event_of(lives, "frozen", "ProbeFailing")
    assert weights(lives, "frozen") == weights(lives, "calm")
    assert lives.get("ltj", "frozen")["status"]["failures"] == 1


def test_checkpoints_go_with_the_training(lives: Namespace, images: dict[str, str]) -> None:
    lives.wait("ltj/watched", "Succeeded")
    code = "import pathlib; print(*pathlib.Path('/data/checkpoints').rglob('*.npz'))"
    assert not lives.run_python("looks", images["server"], code, "lepton-store").split()
