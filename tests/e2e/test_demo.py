"""`make demo CLUSTER=existing`: the main job on a cluster that a user has, told from start to end."""

import os
import subprocess
from pathlib import Path

from demo.kubectl import Kubectl

ROOT = Path(__file__).parents[2]


def namespaces(kubectl: Kubectl) -> set[str]:
    """Names of all namespaces."""
    return {item["metadata"]["name"] for item in kubectl.json("get", "namespaces")["items"]}


def test_the_demo_runs_on_a_cluster_that_is_there(lepton: Kubectl) -> None:
    context = lepton.run("config", "current-context").strip()
    before = namespaces(lepton)
    command = [
        "make", "--no-print-directory", "demo", "CLUSTER=existing", f"CONTEXT={context}",
        f"KUBECONFIG={lepton.kubeconfig}", "ACCESS_MODE=ReadWriteMany",
    ]  # fmt: skip
    # An exported KUBECONFIG is ignored; the one given to make counts.
    environment = os.environ | {
        "KUBECONFIG": "/nowhere",
        "PATH": f"{Path(lepton.program).parent}:{os.environ['PATH']}",
    }
    demo = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)
    try:
        assert demo.returncode == 0, demo.stdout[-3000:] + demo.stderr[-1000:]
        lines = demo.stdout.splitlines()
        server = next(line for line in lines if "server https://127.0.0.1" in line)
        assert "lepton-demo" in server
        assert "lepton-system" in server
        assert lines.index(server) < next(i for i, line in enumerate(lines) if "Installing" in line)
        assert any("of 10 are right" in line for line in lines)
        assert any(line.startswith("leptonmodel.lepton.ai/digits") and " 2/2 " in line for line in lines)
        assert namespaces(lepton) - before <= {"lepton-demo"}
    finally:
        lepton.run("delete", "namespace", "lepton-demo", "--ignore-not-found", "--timeout=120s", timeout=130)
