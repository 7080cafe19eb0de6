"""The operator under test: the process from the tree, its CPU and memory as the kernel counts them."""

import asyncio
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp

from bench.client import BenchError
from tests.ports import free_ports

ROOT = Path(__file__).parent.parent
TICKS = os.sysconf("SC_CLK_TCK")
START_SECONDS = 60.0
STOP_SECONDS = 20.0
LOOK_SECONDS = 0.02
CALM_SECONDS = 2.0
"""So long nothing waits and nothing is worked on, before a wave counts as over."""


class OperatorProcess:
    """One running operator."""

    def __init__(self, kubeconfig: Path, log: Path, *flags: str) -> None:
        """Start it; `log` is appended to."""
        self._log = log
        [self._port] = free_ports(1)
        command = [
            sys.executable, "-m", "lepton_operator",
            f"--kubeconfig={kubeconfig}", f"--health-port={self._port}",
            "--trainer-image=simulated", "--server-image=simulated", *flags,
        ]  # fmt: skip
        environment = {key: value for key, value in os.environ.items() if not key.startswith("LEPTON_")}
        with log.open("ab") as output:
            self._process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
        self.started = time.monotonic()
        self.pid = self._process.pid

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mib(self) -> tuple[float, float]:
        """Resident now, and at the peak."""
        text = Path(f"/proc/{self.pid}/status").read_text()
        now, peak = (re.search(rf"^{name}:\s+(\d+) kB", text, re.MULTILINE) for name in ("VmRSS", "VmHWM"))
        if now is None or peak is None:
            raise BenchError("The operator has ended")
        return int(now[1]) / 1024, int(peak[1]) / 1024

    async def metrics(self) -> dict[str, float]:
        """All samples of /metrics, `name{labels}` -> value; empty while it doesn't answer."""
        status, text = await self._ask("/metrics")
        if status != 200:
            return {}
        lines = (line.rpartition(" ") for line in text.splitlines() if line and line[0] != "#")
        return {name: float(value) for name, _, value in lines}

    async def wait_ready(self) -> float:
        """Seconds from its start until /readyz says ok."""
        while (await self._ask("/readyz"))[0] != 200:
            self._check_alive()
            if time.monotonic() - self.started > START_SECONDS:
                raise BenchError(f"The operator is not ready after {START_SECONDS:.0f} s: see {self._log}")
            await asyncio.sleep(LOOK_SECONDS)
        return time.monotonic() - self.started

    async def wait_idle(self, seconds: float = 120.0, every: float = 0.5) -> float:
        """Wait until it has had nothing to do for a while; the moment when it began to be so.

        Reading the metrics costs the operator some milliseconds: `every` trades them for precision.
        """
        end = time.monotonic() + seconds
        idle_since, reconciles = time.monotonic(), -1.0
        while True:
            metrics = await self.metrics()
            now = time.monotonic()
            done = total(metrics, "lepton_reconcile_total")
            busy = total(metrics, "lepton_workqueue_depth") + total(
                metrics, "lepton_workqueue_active_workers"
            )
            if busy or done != reconciles or not metrics:
                idle_since, reconciles = now, done
            elif now - idle_since >= CALM_SECONDS:
                return idle_since
            self._check_alive()
            if now > end:
                raise BenchError(f"The operator is still busy after {seconds:.0f} s: see {self._log}")
            await asyncio.sleep(every)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End it by a signal and wait."""
        if self._process.poll() is None:
            self._process.send_signal(number)
        try:
            await asyncio.to_thread(self._process.wait, STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise BenchError("The operator did not stop") from None

    def kill(self) -> None:
        """SIGKILL now; used on the way out as well."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def _check_alive(self) -> None:
        if self._process.poll() is not None:
            raise BenchError(f"The operator ended with {self._process.returncode}: see {self._log}")

    async def _ask(self, path: str) -> tuple[int, str]:
        timeout = aiohttp.ClientTimeout(total=5)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout, trust_env=False) as session,
                session.get(f"http://127.0.0.1:{self._port}{path}") as response,
            ):
                return response.status, await response.text()
        except (aiohttp.ClientError, OSError, TimeoutError):
            return 0, ""


def total(metrics: dict[str, float], name: str, containing: Sequence[str] = ()) -> float:
    """Sum of all samples of a metric whose labels hold all of `containing`."""
    return sum(
        value
        for sample, value in metrics.items()
        if sample.partition("{")[0] == name and all(part in sample for part in containing)
    )
