"""Everything that must be there before the first manifest is applied: programs, images, cluster."""

import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from demo.display import DemoError, Display, bar
from demo.kubectl import Kubectl, environment

ROOT = Path(__file__).resolve().parent.parent
LOGS = ROOT / ".cluster-logs"
VENV_PYTHON = ROOT / ".venv" / "bin" / "python"
NAMESPACE = "lepton-demo"
SYSTEM_NAMESPACE = "lepton-system"
COUNT = re.compile(r"(\d+)(?:/| of )(\d+)")
"""What a tool counts in its last line: 3/10, or 3 of 10."""


@dataclass
class Step:
    """A command that runs beside others, its output in a log file."""

    name: str
    command: list[str]
    started: float = field(default_factory=time.monotonic)
    process: subprocess.Popen[bytes] | None = None

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return LOGS / f"{self.name.replace(' ', '-')}.log"

    def start(self) -> None:
        """Starts it in the background."""
        LOGS.mkdir(exist_ok=True)
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                self.command,
                cwd=ROOT,
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def stop(self) -> None:
        """Ends it with all that it started; the cluster's own processes are in sessions of their own."""
        if self.process and self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGTERM)
            self.process.wait()

    def line(self) -> str:
        """Its bar when its last line counts something, and that line."""
        elapsed = int(time.monotonic() - self.started)
        last = self.last_line()
        counted = COUNT.search(last)
        text = f"{bar(int(counted[1]), int(counted[2]))} {last}" if counted else last
        return f"{text[:110]}  {elapsed // 60}:{elapsed % 60:02d}"

    def last_line(self) -> str:
        """What it said last."""
        with self.log.open("rb") as log:
            log.seek(max(0, self.log.stat().st_size - 4096))
            lines = log.read().decode(errors="replace").replace("\r", "\n").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), "starting")


def run_together(display: Display, steps: list[Step]) -> None:
    """Runs steps side by side, shows them, stops all when one fails or a person interrupts."""
    for step in steps:
        step.start()
    waiting = list(steps)
    try:
        while waiting:
            display.update({step.name: step.line() for step in waiting})
            for step in [step for step in waiting if step.process and step.process.poll() is not None]:
                waiting.remove(step)
                seconds = int(time.monotonic() - step.started)
                if step.process and step.process.returncode != 0:
                    tail = "\n".join(step.log.read_text(errors="replace").splitlines()[-15:])
                    raise DemoError(f"{step.name} failed ({step.log}):\n{tail}")
                display.say(f"   {step.name:<22} done  {seconds // 60}:{seconds % 60:02d}")
            time.sleep(0.2)
    finally:
        for step in waiting:
            step.stop()


def cluster_tool(*arguments: str) -> list[str]:
    """A command of the local cluster's tool."""
    return [sys.executable, "tests/cluster/cli.py", *arguments]


def image_tool(*arguments: str) -> list[str]:
    """A command of the image builder."""
    return [sys.executable, "images/build.py", *arguments]


def output(command: list[str]) -> list[str]:
    """Lines that a tool prints."""
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if result.returncode != 0:
        raise DemoError(f"{' '.join(command)} failed: {result.stderr.strip()}")
    return result.stdout.split()


def image_references(registry: str | None) -> dict[str, str]:
    """name -> reference of the three images."""
    arguments = ["refs", *(["--registry", registry] if registry else [])]
    return dict(line.split("=", 1) for line in output(image_tool(*arguments)))


def local_cluster(display: Display, nodes: int | None) -> Kubectl:
    """Builds what is missing, boots the cluster, loads the images."""
    display.title("Building what is not there yet: Kubernetes, images, virtual environment")
    run_together(
        display,
        [
            Step("kubernetes", cluster_tool("build")),
            Step("images", image_tool("build")),
            Step("virtual environment", ["make", "--no-print-directory", "venv"]),
        ],
    )
    display.title("Booting a local Kubernetes")
    wanted = ("--nodes", str(nodes)) if nodes else ()
    run_together(display, [Step("cluster", cluster_tool("up", *wanted))])
    archives = output(image_tool("archives"))
    run_together(display, [Step("loading images", cluster_tool("load", *archives))])
    paths = dict(line.split("=", 1) for line in output(cluster_tool("env")))
    kubectl = Kubectl(paths["KUBECTL"], Path(paths["KUBECONFIG"]), None)
    say_where(display, kubectl)
    return kubectl


def say_where(display: Display, kubectl: Kubectl) -> None:
    """Which cluster, and what is touched in it."""
    display.say(f"   server {kubectl.server()}, namespaces {NAMESPACE} and {SYSTEM_NAMESPACE}")


def existing_cluster(
    display: Display, context: str, kubeconfig: Path | None, registry: str | None
) -> Kubectl:
    """A cluster the user has: images go to the user's registry, nothing is booted."""
    kubectl = Kubectl("kubectl", kubeconfig, context)
    display.title(f"Using the cluster of context {context}")
    say_where(display, kubectl)
    display.say(
        "   beside them only the CRDs and the ClusterRoles lepton-operator, lepton-edit and lepton-view"
    )
    if registry is None:
        display.say(
            "   no REGISTRY is given: the images must be on the nodes already, by the names of `make images`"
        )
    push = [Step("images", image_tool("push", "--registry", registry))] if registry else []
    run_together(display, [*push, Step("virtual environment", ["make", "--no-print-directory", "venv"])])
    return kubectl
