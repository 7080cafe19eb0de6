"""More workers are a number."""

from tests.e2e.cluster import Namespace, dataset, training_job, until


def test_two_workers_make_one_version(namespace: Namespace) -> None:
    namespace.apply(dataset(), training_job(workers=2))
    namespace.wait("ltj/cnn", "Succeeded", 300)
    status = namespace.get("ltj", "cnn")["status"]
    assert (status["workers"], status["attempt"]) == (2, 1)
    assert status["metrics"]["testAccuracy"] > 0.3
    pods = namespace.list("pods", "lepton.ai/name=cnn")
    assert len(pods) == 2
    code = namespace.get("service", "cnn-train")["spec"]
    assert code["clusterIP"] == "None"


def test_a_failing_worker_ends_the_attempt_and_the_next_one_succeeds(namespace: Namespace) -> None:
    namespace.apply(dataset(), training_job(training={"epochs": 300, "batchSize": 64}))
    until(lambda: "steps" in namespace.get("ltj", "cnn").get("status", {}).get("progress", {}), "steps")
    pod = namespace.list("pods", "lepton.ai/name=cnn")[0]["metadata"]["name"]
    namespace.run("exec", pod, "--", "python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)")
    until(lambda: namespace.get("ltj", "cnn")["status"].get("failures") == 1, "that the failure is counted")
    until(lambda: namespace.get("ltj", "cnn")["status"].get("attempt") == 2, "the second attempt", 120)
    assert namespace.find("job", "cnn-train-a2")
