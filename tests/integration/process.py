"""The operator as a process of its own, from the tree: started, killed, frozen, asked."""

import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Protocol

from prometheus_client.parser import text_string_to_metric_families

from tests.integration.background import Background
from tests.integration.forks import ForkedLife
from tests.integration.kube import until
from tests.ports import free_ports

ROOT = Path(__file__).parents[2]
READY_SECONDS = 60.0
STOP_SECONDS = 20.0

DEFAULTS = {
    "trainer_image": "lepton-trainer:test",
    "server_image": "lepton-server:test",
    "tensorflow_server_image": "lepton-tensorflow-server:test",
    "store_size": "1Gi",
    # Simulated pods have no reports, and no figures for autoscalers.
    "report_interval_seconds": "3600",
    "drift_interval_seconds": "3600",
    "autoscaler_grace_seconds": "86400",
}


class Life(Protocol):
    """A process."""

    @property
    def pid(self) -> int:
        """Of the process."""

    def poll(self) -> int | None:
        """The exit code, or None while it lives."""

    def send_signal(self, number: int) -> None:
        """Nothing happens when it has ended."""

    def wait(self, seconds: float) -> int:
        """The exit code, once it has ended."""


class OperatorProcess:
    """`python -m lepton_operator`; one life after the other, never beyond this process's own."""

    def __init__(
        self,
        background: Background,
        kubeconfig: Path,
        namespaces: str,
        log: Path,
        settings: dict[str, str] | None = None,
        *,
        forked: bool = False,
    ) -> None:
        """`settings` by the names of the operator's settings; `log` gets the lines of all lives."""
        self._background = background
        self._forked = forked
        self._log = log
        self._settings = {
            **DEFAULTS,
            "kubeconfig": str(kubeconfig),
            "namespaces": namespaces,
            **(settings or {}),
        }
        self._process: Life | None = None
        self.port = 0

    @property
    def pid(self) -> int:
        """Of the life that runs."""
        assert self._process is not None, "the operator was started"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, wait: bool = True) -> None:
        """Start a life; wait until its caches are full."""
        assert not self.is_running, "one life at a time"
        [self.port] = free_ports(1)
        if self._forked:
            self._process = ForkedLife(self._flags(), self._log)
        else:
            # The process dies with the thread that started it, which lives as long as the tests.
            self._process = self._background.do(self._spawn)
        if wait:
            self.wait_ready()

    def _spawn(self) -> subprocess.Popen[bytes]:
        command = ["setpriv", "--pdeathsig", "KILL", sys.executable, "-m", "lepton_operator", *self._flags()]
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("LEPTON_") and name != "KUBECONFIG"
        }
        with self._log.open("ab") as output:
            return subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )

    def _flags(self) -> list[str]:
        settings = self._settings | {"health_port": str(self.port)}
        return [f"--{name.replace('_', '-')}={value}" for name, value in settings.items()]

    def wait_ready(self) -> None:
        """Wait for /readyz."""

        def ready() -> bool:
            assert self.is_running, f"the operator ended:\n{self.log()[-3000:]}"
            return self.ask("/readyz")[0] == 200

        until(ready, lambda: f"readiness: {self.ask('/readyz')}\n{self.log()[-3000:]}", READY_SECONDS, 0.1)

    def kill(self) -> None:
        """SIGKILL: nothing is finished."""
        self.signal(signal.SIGKILL)
        self.wait()

    def kill_now(self) -> None:
        """SIGKILL without waiting for the end; safe on the background loop."""
        self.signal(signal.SIGKILL)

    def terminate(self) -> int:
        """SIGTERM, and the exit code."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def freeze(self) -> None:
        """SIGSTOP."""
        self.signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)

    def signal(self, number: int) -> None:
        """Send a signal to the life that runs, if there is one."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    def wait(self) -> int:
        """The exit code, once it has ended."""
        assert self._process is not None, "the operator was started"
        return self._process.wait(STOP_SECONDS)

    def close(self) -> None:
        """End it, whatever state it is in."""
        if self.is_running:
            self.kill()

    def log(self) -> str:
        """All that was logged, by all lives."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def ask(self, path: str) -> tuple[int, str]:
        """GET on the health port; status 0 when nobody answers."""
        url = f"http://127.0.0.1:{self.port}{path}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(url, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> dict[str, float]:
        """Every sample of /metrics, as `name{label="value",...}`."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        return {
            _sample_name(sample.name, sample.labels): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def total(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that have these labels."""
        status, text = self.ask("/metrics")
        assert status == 200, text
        return sum(
            sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def is_idle(self) -> bool:
        """No key waits for a worker, and no worker is busy."""
        return self.total("lepton_workqueue_depth") + self.total("lepton_workqueue_active_workers") == 0

    def memory(self) -> int:
        """Resident bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")

    def cpu_seconds(self) -> float:
        """CPU time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _sample_name(name: str, labels: dict[str, str]) -> str:
    inner = ",".join(f'{key}="{value}"' for key, value in sorted(labels.items()))
    return f"{name}{{{inner}}}" if inner else name
