"""The operator is killed in the middle, or runs outside the cluster: the end is the same."""

import os
import subprocess
import sys
from pathlib import Path

from demo.install import SYSTEM_NAMESPACE
from demo.kubectl import Kubectl
from tests.e2e.cluster import Namespace, dataset, model, training_job, until
from tests.e2e.test_deletion import REPLICAS, scale

ROOT = Path(__file__).parents[2]
OPERATOR = ("-n", SYSTEM_NAMESPACE, "-l", "app.kubernetes.io/name=lepton-operator")


def kill_operator(kubectl: Kubectl) -> None:
    """Ends the operator's pods at once, as lost processes would."""
    kubectl.run("delete", "pod", *OPERATOR, "--grace-period=0", "--force", "--wait=false")


def test_killed_at_each_stage_the_end_is_the_same(namespace: Namespace, lepton: Kubectl) -> None:
    namespace.apply(dataset(), training_job(), model(replicas=2))
    until(lambda: namespace.children(), "the first child")
    kill_operator(lepton)
    until(lambda: namespace.find("job", "cnn-train-a1"), "the training's Job", 120)
    kill_operator(lepton)
    until(lambda: namespace.find("deployment", "digits"), "the Deployment", 240)
    kill_operator(lepton)
    namespace.wait("lm/digits", "Ready", 240)
    assert namespace.condition("ltj", "cnn", "Succeeded")["status"] == "True"
    status = namespace.get("ltj", "cnn")["status"]
    assert (status["attempt"], status.get("failures", 0)) == (1, 0)
    jobs = [item["metadata"]["name"] for item in namespace.list("jobs")]
    assert len(jobs) == 2, jobs
    assert len(namespace.list("deployments")) == 1


def test_a_job_that_ended_while_the_operator_was_down_is_seen(namespace: Namespace, lepton: Kubectl) -> None:
    namespace.apply(dataset(), training_job())
    until(lambda: namespace.find("job", "cnn-train-a1"), "the training's Job", 120)
    scale(lepton, 0)
    try:
        namespace.wait("job/cnn-train-a1", "Complete", 180)
        # Even the result is lost with its pod: it is read again from the artifact, without training.
        namespace.run("delete", "pods", "-l", "lepton.ai/name=cnn", "--wait=true")
    finally:
        scale(lepton, REPLICAS)
    namespace.wait("ltj/cnn", "Succeeded", 180)
    status = namespace.get("ltj", "cnn")["status"]
    assert status["attempt"] == 2
    assert status.get("failures", 0) == 0


def test_the_operator_runs_outside_the_cluster(
    namespace: Namespace, lepton: Kubectl, images: dict[str, str], tmp_path: Path
) -> None:
    scale(lepton, 0)
    command = [
        sys.executable, "-m", "lepton_operator",
        "--kubeconfig", str(lepton.kubeconfig),
        "--trainer-image", images["trainer"],
        "--server-image", images["server"],
        "--health-port", "0",
        "--report-interval-seconds", "1",
    ]  # fmt: skip
    environment = {name: value for name, value in os.environ.items() if not name.startswith("LEPTON_")}
    environment.pop("KUBECONFIG", None)
    log = tmp_path / "operator.log"
    with log.open("wb") as output:
        operator = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=output, stderr=output)
    try:
        namespace.apply(dataset(), training_job(training={"epochs": 3}))
        # Reports are read through the API server's proxy.
        until(
            lambda: "steps" in namespace.get("ltj", "cnn").get("status", {}).get("progress", {}),
            "progress",
            120,
        )
        namespace.wait("ltj/cnn", "Succeeded", 180)
        operator.terminate()
        assert operator.wait(timeout=20) == 0, log.read_text()[-2000:]
    finally:
        if operator.poll() is None:
            operator.kill()
            operator.wait()
        scale(lepton, REPLICAS)
