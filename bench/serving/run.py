"""Takes the cells: servers on one core, the load on another, one cell at a time."""

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.client import BenchError
from bench.serving import process
from bench.serving.cells import ROUNDS, Cell, cells_of, round_of_fast
from bench.serving.environments import PEERS, cache_folder, ensure
from bench.serving.load import PATIENCE_SECONDS, Load, Taken
from bench.serving.network import ROOT, Network, add_onnx, made
from bench.serving.process import Running
from bench.serving.results import Results
from bench.serving.servers import ONNX_RUNTIME, SERVERS, Server
from bench.serving.usage import has_dot_products, memory_mib

FILES = {"float32": "model.tflite", "int8": "model.int8.tflite"}
CONVERTER = "kserve"
"""The environment that can make the ONNX file."""


@dataclass(frozen=True)
class Plan:
    """How thoroughly."""

    seconds: float = 3.0
    """Of each cell, after its warm-up."""
    warm_up: float = 0.5
    rounds: int = ROUNDS
    servers: Sequence[Server] = SERVERS


class Bench:
    """One run."""

    def __init__(self, plan: Plan, server_core: int, load_core: int) -> None:
        self.plan = plan
        self.results = Results(plan.servers, has_dot_products(Path("/proc/cpuinfo").read_text()))
        self._cores = server_core, load_core
        self._logs = cache_folder() / "logs"
        self._running: dict[str, Running] = {}

    async def run(self) -> Results:
        """All of it; what fails is in the results, but for the network itself.

        Raises:
            BenchError: the network can't be made, the load failed, or there is no taskset.
        """
        if shutil.which("taskset") is None:
            raise BenchError("taskset is needed: apt-get install util-linux")
        self._logs.mkdir(parents=True, exist_ok=True)
        there = await self._install()
        say("making the network")
        network = await made()
        if CONVERTER in there:
            await self._convert(network, there[CONVERTER])
        servers = [server for server in self.plan.servers if server.name not in self.results.failures]
        with _on_core(self._cores[1]):
            await self._take_loops(network)
            fast = [server for server in servers if not server.slow]
            for number in range(self.plan.rounds):
                async with self._started(fast, network) as names:
                    await self._take(round_of_fast(number, names))
            for server in servers:
                if server.slow:
                    async with self._started([server], network) as names:
                        await self._take(cells_of(server) if names else [])
        return self.results

    async def _install(self) -> dict[str, Path]:
        """Interpreters of the environments that are needed."""
        found = {}
        needed = {server.environment for server in self.plan.servers} | {CONVERTER}
        for name in sorted(filter(None, needed)):
            say(f"environment {name}")
            try:
                found[name] = await ensure(name)
            except BenchError as error:
                for server in self.plan.servers:
                    if server.environment == name:
                        self.results.failures[server.name] = f"it can't be installed: {error}"
        return found

    async def _convert(self, network: Network, python: Path) -> None:
        try:
            await add_onnx(network, python)
        except BenchError as error:
            for server in self.plan.servers:
                if server.engine == ONNX_RUNTIME:
                    self.results.failures[server.name] = f"the network can't be converted: {error}"

    @contextlib.asynccontextmanager
    async def _started(self, servers: Iterable[Server], network: Network) -> AsyncIterator[list[str]]:
        """Starts them one after the other; names of those that answer. Ends all and looks at their memory before."""
        try:
            for server in servers:
                if server.name not in self.results.failures:
                    await self._start(server, network)
            yield list(self._running)
            for name, running in self._running.items():
                self.results.add_memory(name, memory_mib(running.pid))
        finally:
            while self._running:
                _, running = self._running.popitem()
                await running.stop()

    async def _start(self, server: Server, network: Network) -> None:
        running = await process.start(server, network, self._cores[0], self._logs)
        self._running[server.name] = running
        try:
            await running.wait_answer()
            await running.check()
        except BenchError as error:
            self.results.failures[server.name] = str(error)
            say(f"{server.name}: {error}")
            del self._running[server.name]
            await running.stop()
            return
        self.results.add_start(server.name, running.start_seconds)
        self.results.wrong |= {(server.name, kind): why for kind, why in running.wrong.items()}
        for kind, why in running.wrong.items():
            say(f"{server.name}, {kind}: {why}")
        say(f"{server.name}: answers after {running.start_seconds:.2f} s")

    async def _take(self, cells: Iterable[Cell]) -> None:
        for cell in cells:
            if (cell.server, cell.kind) in self.results.wrong or cell.server in self.results.failures:
                continue
            running = self._running[cell.server]
            if running.process.returncode is not None:
                why = f"it ended with {running.process.returncode}: {running.last_words()}"
                self.results.failures[cell.server] = why
                say(f"{cell.server}: {why}")
                continue
            taken = await self._take_one(running, cell)
            if taken.errors:
                await running.settle()
            self.results.add_cell(cell, taken)
            told = f"{taken.rate:.0f}/s, p50 {taken.p50:.2f} ms, p99 {taken.p99:.2f} ms"
            cost = f"{taken.cpu_per_answer:.0f} us of CPU, errors {taken.errors}, load {taken.client_cpu:.0%}"
            say(f"{cell.server}, {cell.kind}, {cell.clients} clients: {told}, {cost}")

    async def _take_one(self, running: Running, cell: Cell) -> Taken:
        """One cell, by a load process.

        Raises:
            BenchError: the load failed.
        """
        plan = self.plan
        with tempfile.NamedTemporaryFile() as file:
            file.write(running.request(cell.kind))
            file.flush()
            load = Load(running.port, file.name, cell.clients, plan.seconds, plan.warm_up, running.pid)
            output = await _call(
                self._cores[1], plan.seconds + plan.warm_up + PATIENCE_SECONDS + 30,
                "-m", "bench.serving.load", json.dumps(dataclasses.asdict(load)),
            )  # fmt: skip
        return Taken(**json.loads(output))

    async def _take_loops(self, network: Network) -> None:
        for precision, file in FILES.items():
            variables = {"BENCH_NETWORK": str(network.folder), "BENCH_ENGINE": "litert", "BENCH_FILE": file}
            output = await _call(
                self._cores[0], self.plan.seconds + 60,
                str(PEERS / "bare_loop.py"), str(self.plan.seconds), **variables,
            )  # fmt: skip
            self.results.loops[precision] = json.loads(output)["rate"]
            say(f"engine in a loop, {precision}: {self.results.loops[precision]:.0f}/s")


async def _call(core: int, seconds: float, *arguments: str, **variables: str) -> str:
    """The last line that a Python process of the project prints.

    Raises:
        BenchError: it failed, or took longer.
    """
    started = await asyncio.create_subprocess_exec(
        "taskset", "--cpu-list", str(core), sys.executable, *arguments,
        cwd=ROOT, env={**os.environ, **variables}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(seconds):
            output, errors = await started.communicate()
    except TimeoutError:
        raise BenchError(f"{arguments[:2]} did not end within {seconds:.0f} s") from None
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended
            started.kill()
    if started.returncode:
        raise BenchError(f"{arguments[:2]} ended with {started.returncode}: {errors.decode()[-600:]}")
    return output.decode().splitlines()[-1]


@contextlib.contextmanager
def _on_core(core: int) -> Iterator[None]:
    """This process keeps off the servers' core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def say(line: str) -> None:
    """What goes on, for whoever waits."""
    print(f"           {line}", file=sys.stderr, flush=True)
