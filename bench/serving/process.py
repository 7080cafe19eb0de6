"""A running server: pinned to its core, timed until its first good answer, checked, and ended with all its children."""

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

from bench.client import BenchError
from bench.serving.network import Network
from bench.serving.requests import read_answer
from bench.serving.servers import Server
from bench.serving.usage import birth, cpu_seconds, tree
from tests.ports import free_ports

START_SECONDS = 180.0
ANSWER_SECONDS = 30.0
STOP_SECONDS = 10.0
LOOK_SECONDS = 0.005
SETTLE_SECONDS = 60.0
QUIET_SECONDS, QUIET_SHARE = 0.5, 0.1
"""A server that takes so little of its core for so long has nothing to do."""
TOLERANCE = {"json": 1e-4, "binary": 1e-4, "small": 0.03, "large": 0.03}
"""Of a probability. Others read pictures with decoders and resizes of their own."""


@dataclass
class Running:
    """One server that was started."""

    server: Server
    network: Network
    port: int
    process: asyncio.subprocess.Process
    log: Path
    started: float
    start_seconds: float = 0.0
    """Until its first good answer."""
    wrong: dict[str, str] = field(default_factory=dict)
    """Why a kind of request can't be measured."""

    @property
    def pid(self) -> int:
        """Of its first process."""
        return self.process.pid

    def request(self, kind: str) -> bytes:
        """The bytes of one request."""
        return self.server.requests[kind](self.network, kind).whole(f"127.0.0.1:{self.port}")

    async def wait_answer(self) -> None:
        """Until it has answered its first kind of request well.

        Raises:
            BenchError: it ended, or it doesn't within START_SECONDS.
        """
        kind = next(iter(self.server.requests))
        request, last = self.request(kind), "nothing"
        while time.monotonic() - self.started < START_SECONDS:
            if self.process.returncode is not None:
                raise BenchError(f"it ended with {self.process.returncode}: {self.last_words()}")
            try:
                status, _, body = await ask(self.port, request)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                last = type(error).__name__
            else:
                if status == 200:
                    self.start_seconds = time.monotonic() - self.started
                    return
                last = f"{status} {body[:200]!r}"
            await asyncio.sleep(LOOK_SECONDS)
        raise BenchError(
            f"no good answer within {START_SECONDS:.0f} s, the last was {last}: {self.last_words()}"
        )

    async def check(self) -> None:
        """Asks each kind once; what isn't answered rightly is noted in `wrong`."""
        expected = self.network.expected()
        for kind in self.server.requests:
            right = expected[kind if kind in expected else self.server.expected]
            try:
                self.wrong |= await self._difference(kind, right)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.wrong[kind] = f"{type(error).__name__} {error}"[:200]

    async def settle(self) -> None:
        """Until it no longer works on requests whose clients have gone, so that the next cell has none of them."""
        end = time.monotonic() + SETTLE_SECONDS
        with contextlib.suppress(OSError, EOFError, ValueError, TimeoutError):
            # Its answer comes after theirs, where requests are taken in their order.
            await ask(self.port, self.request(next(iter(self.server.requests))), SETTLE_SECONDS)
        used = cpu_seconds(self.pid)
        while time.monotonic() < end:
            await asyncio.sleep(QUIET_SECONDS)
            before, used = used, cpu_seconds(self.pid)
            if used - before < QUIET_SECONDS * QUIET_SHARE:
                return

    async def stop(self) -> None:
        """SIGTERM, and SIGKILL for what is left of it then."""
        family = {pid: born for pid in tree(self.pid) if (born := birth(pid))}
        if self.process.returncode is None:
            self.process.terminate()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        for pid, born in family.items():
            if birth(pid) == born:  # numbers are given again
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        await self.process.wait()

    def last_words(self) -> str:
        """The end of its output, in one line."""
        return " ".join(self.log.read_text(errors="replace").split())[-600:]

    async def _difference(self, kind: str, right: list[float]) -> dict[str, str]:
        status, headers, body = await ask(self.port, self.request(kind))
        if status != 200:
            return {kind: f"status {status}: {body[:160].decode(errors='replace')}"}
        found = read_answer(headers, body)
        if len(found) != len(right):
            return {kind: f"{len(found)} numbers instead of {len(right)}"}
        difference = max(abs(one - other) for one, other in zip(found, right, strict=True))
        if not difference <= TOLERANCE[kind]:
            return {kind: f"its answer differs by {difference:.2g} from the right one"}
        return {}


async def start(server: Server, network: Network, core: int, logs: Path) -> Running:
    """Start it on one core; its output goes into a file below `logs`."""
    [port] = free_ports(1)
    log = logs / f"{server.name}.log"
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("LEPTON_", "BENCH_"))}
    environment = {**kept, "TF_CPP_MIN_LOG_LEVEL": "2", **server.settings(network, port)}
    with log.open("wb") as output:
        began = time.monotonic()
        process = await asyncio.create_subprocess_exec(
            "taskset", "--cpu-list", str(core), *server.command(port),
            env=environment, cwd=logs, stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output,
        )  # fmt: skip
    return Running(server, network, port, process, log, began)


async def ask(
    port: int, request: bytes, seconds: float = ANSWER_SECONDS
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers by lower-case names, and body of the answer to one request on a connection of its own.

    Raises:
        OSError, EOFError: no connection, or it was closed too early.
        TimeoutError, ValueError: no answer in time, or none in HTTP.
    """
    async with asyncio.timeout(seconds):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(request)
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            pairs = (line.partition(":") for line in head[1:] if line)
            headers = {name.strip().lower(): value.strip() for name, _, value in pairs}
            if headers.get("transfer-encoding", "") == "chunked":
                body = await _chunks(reader)
            else:
                body = await reader.readexactly(int(headers.get("content-length", "0")))
            return int(head[0].split()[1]), headers, body
        finally:
            writer.close()


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readline()).partition(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readline()
    await reader.readline()
    return b"".join(parts)
