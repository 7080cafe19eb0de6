"""More workers are a number."""

import pytest

from tests.e2e.cluster import Namespace, dataset, training_job, until
from tests.e2e.workers import log_of, pods_of


@pytest.mark.parametrize("workers", [2, 3])
def test_several_workers_make_one_version(namespace: Namespace, images: dict[str, str], workers: int) -> None:
    namespace.apply(dataset(), training_job(workers=workers, training={"epochs": 2, "batchSize": 66}))
    namespace.wait("ltj/cnn", "Succeeded", 300)
    status = namespace.get("ltj", "cnn")["status"]
    assert (status["workers"], status["attempt"]) == (workers, 1)
    assert status["metrics"]["testAccuracy"] > 0.3
    pods = pods_of(namespace, "cnn")
    assert len(pods) == workers
    told = {log_of(namespace, pod, "Trained")[0]["weights"] for pod in pods}
    assert told == {status["result"]["weightsDigest"]}
    assert namespace.get("service", "cnn-train")["spec"]["clusterIP"] == "None"
    code = "import os; print(*[name for name in os.listdir('/data/models') if not name.startswith('.')])"
    listed = namespace.run_python("looks", images["server"], code, "lepton-store")
    assert listed.split() == [status["result"]["digest"]]


def test_a_failing_worker_ends_the_attempt_and_the_next_one_succeeds(namespace: Namespace) -> None:
    namespace.apply(dataset(), training_job(training={"epochs": 300, "batchSize": 64}))
    until(lambda: "steps" in namespace.get("ltj", "cnn").get("status", {}).get("progress", {}), "steps")
    pod = namespace.list("pods", "lepton.ai/name=cnn")[0]["metadata"]["name"]
    namespace.run("exec", pod, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    until(lambda: namespace.get("ltj", "cnn")["status"].get("failures") == 1, "that the failure is counted")
    until(lambda: namespace.get("ltj", "cnn")["status"].get("attempt") == 2, "the second attempt", 120)
    assert namespace.find("job", "cnn-train-a2")
