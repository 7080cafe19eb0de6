"""The load: so many connections, each of which sends its next request as soon as the last one is answered.

`python -m bench.serving.load JSON` prints a `Taken` as JSON. It is a process of its own, pinned to a core where no
server runs. Requests are bytes that were made before, and of an answer only what is needed is looked at, so that one
core asks faster than another one can answer.
"""

import asyncio
import contextlib
import dataclasses
import json
import socket
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import uvloop

from bench.figures import percentile
from bench.serving.usage import cpu_seconds

PATIENCE_SECONDS = 10.0
"""A request that isn't answered so long after the measuring ended counts as unanswered."""
BACKOFF_SECONDS = 0.05
"""Pause of a connection after an error, as a client that doesn't make an overload worse has it."""
MOST_ANSWERS = 200_000
"""No more are counted in one cell."""


@dataclass(frozen=True)
class Load:
    """One cell: how it is asked."""

    port: int
    request: str
    """File with the request's bytes."""
    clients: int
    seconds: float
    warm_up: float
    pid: int
    """Of the server, whose CPU time is counted with that of all its children."""


@dataclass(frozen=True)
class Taken:
    """One cell: what came of it."""

    seconds: float
    """From the begin of the measuring to the last answer."""
    answers: int
    """Good ones: status 200."""
    p50: float
    """Milliseconds of the good ones; 0 when there are none."""
    p99: float
    cpu: float
    """CPU seconds of the server meanwhile."""
    errors: dict[str, int]
    """How many by status or by what happened."""
    client_cpu: float
    """Share of its core that the load took; near 1 it measured itself."""

    @property
    def rate(self) -> float:
        """Good answers in a second."""
        return self.answers / self.seconds if self.seconds > 0 else 0.0

    @property
    def cpu_per_answer(self) -> float:
        """Microseconds."""
        return self.cpu / self.answers * 1e6 if self.answers else 0.0

    @property
    def failed(self) -> int:
        """Requests without a good answer."""
        return sum(self.errors.values())


class AnswerParser:
    """Finds the end of each answer in a connection's bytes; understands lengths, chunks, and nothing else."""

    def __init__(self) -> None:
        self._data = b""
        self._left = 0
        """Bytes of the body that are still to come; -1 for chunks."""
        self.status = 0

    def feed(self, data: bytes) -> bool:
        """True when the answer is whole.

        Raises:
            ValueError: this is no HTTP.
        """
        if self.status == 0:
            self._data += data
            end = self._data.find(b"\r\n\r\n")
            if end < 0:
                return False
            head, data = self._data[:end], self._data[end + 4 :]
            self._data = b""
            self.status = int(head[9:12])
            self._left = _length(head)
        if self._left < 0:
            self._data += data
            return self._data.endswith(b"0\r\n\r\n")
        self._left -= len(data)
        return self._left <= 0

    def reset(self) -> None:
        """Before the next answer."""
        self._data, self._left, self.status = b"", 0, 0


def _length(head: bytes) -> int:
    lower = head.lower()
    start = lower.find(b"content-length:")
    if start < 0:
        return -1 if b"transfer-encoding: chunked" in lower else 0
    end = lower.find(b"\r\n", start)
    return int(lower[start + 15 : end if end >= 0 else None])


@dataclass
class Tally:
    """What all connections of a cell have counted."""

    request: bytes
    counting: bool = False
    """Whether the warm-up is over."""
    ended: bool = False
    """No more requests are sent."""
    enough: asyncio.Event = field(default_factory=asyncio.Event)
    """MOST_ANSWERS have come."""
    idle: asyncio.Event = field(default_factory=asyncio.Event)
    """All has ended, and nothing is waited for."""
    begin: float = 0.0
    last: float = 0.0
    """When the last good answer came."""
    times: list[float] = field(default_factory=list)
    """Seconds of each good answer."""
    errors: Counter[str] = field(default_factory=Counter)
    waiting: int = 0
    """Requests that are on their way."""

    def sent(self) -> None:
        """A request is on its way."""
        self.waiting += 1

    def arrived(self) -> None:
        """A request waits no more, whatever came of it."""
        self.waiting -= 1
        if self.ended and self.waiting == 0:
            self.idle.set()

    def end(self) -> None:
        """From now on no request is sent."""
        self.ended = True
        if self.waiting == 0:
            self.idle.set()

    def answered(self, sent: float, status: int) -> None:
        """An answer came now to a request of then."""
        now = time.perf_counter()
        if not self.counting:
            return
        if status == 200:
            self.last = now
            # What was on its way before the measuring began waits in it only from then on, but took what it took.
            self.times.append(now - sent)
            if len(self.times) >= MOST_ANSWERS:
                self.enough.set()
        else:
            self.errors[str(status)] += 1

    def failed(self, what: str) -> None:
        """A request will have no answer."""
        if self.counting:
            self.errors[what] += 1


class Connection(asyncio.Protocol):
    """One client."""

    def __init__(self, tally: Tally, lost: asyncio.Event) -> None:
        self._tally = tally
        self._lost = lost
        self._parser = AnswerParser()
        self._sent = 0.0
        self._waits = False
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Sends the first request."""
        self._transport = cast(asyncio.Transport, transport)
        found = transport.get_extra_info("socket")
        found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._send()

    def data_received(self, data: bytes) -> None:
        """Sends the next request when the answer to the last one is whole."""
        try:
            whole = self._parser.feed(data)
        except ValueError:
            self._give_up("no HTTP")
            return
        if not whole:
            return
        status = self._parser.status
        self._parser.reset()
        self._tally.answered(self._sent, status)
        self._end_waiting()
        if status == 200:
            self._send()
        else:
            asyncio.get_running_loop().call_later(BACKOFF_SECONDS, self._send)

    def connection_lost(self, exc: Exception | None) -> None:
        """The server closed it."""
        if self._waits:
            self._end_waiting()
            self._tally.failed("closed")
        self._lost.set()

    def _send(self) -> None:
        if self._transport is None or self._transport.is_closing() or self._tally.ended:
            return
        self._waits = True
        self._tally.sent()
        self._sent = time.perf_counter()
        self._transport.write(self._tally.request)

    def _end_waiting(self) -> None:
        self._waits = False
        self._tally.arrived()

    def _give_up(self, what: str) -> None:
        self._end_waiting()
        self._tally.failed(what)
        if self._transport is not None:
            self._transport.close()


async def take(load: Load) -> Taken:
    """Runs one cell."""
    tally = Tally(await asyncio.to_thread(Path(load.request).read_bytes))
    clients = [asyncio.create_task(_client(load.port, tally)) for _ in range(load.clients)]
    await asyncio.sleep(load.warm_up)
    tally.begin = tally.last = time.perf_counter()
    cpu, own = cpu_seconds(load.pid), time.process_time()
    tally.counting = True
    await _wait(tally.enough, load.seconds)
    own_share = (time.process_time() - own) / (time.perf_counter() - tally.begin)
    tally.end()
    await _wait(tally.idle, PATIENCE_SECONDS)
    cpu = cpu_seconds(load.pid) - cpu
    tally.counting = False
    unanswered = tally.waiting
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)
    return summary(tally, unanswered, cpu, own_share)


def summary(tally: Tally, unanswered: int, cpu: float, client_cpu: float) -> Taken:
    """The figures of what was counted."""
    errors = dict(tally.errors)
    if unanswered:
        errors["unanswered"] = unanswered
    times = [seconds * 1000 for seconds in tally.times]
    return Taken(
        seconds=tally.last - tally.begin,
        answers=len(times),
        p50=percentile(times, 50) if times else 0.0,
        p99=percentile(times, 99) if times else 0.0,
        cpu=cpu,
        errors=errors,
        client_cpu=client_cpu,
    )


async def _client(port: int, tally: Tally) -> None:
    """Keeps one connection open until all has ended."""
    loop = asyncio.get_running_loop()
    while not tally.ended:
        lost = asyncio.Event()
        try:
            transport, _ = await loop.create_connection(partial(Connection, tally, lost), "127.0.0.1", port)
        except OSError:
            tally.failed("refused")
            await asyncio.sleep(BACKOFF_SECONDS)
            continue
        try:
            await lost.wait()
        finally:
            transport.close()
        await asyncio.sleep(BACKOFF_SECONDS)


async def _wait(event: asyncio.Event, seconds: float) -> None:
    """Until it is set, or so long."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)


def main() -> None:
    """Run the cell of the command line."""
    load = Load(**json.loads(sys.argv[1]))
    print(json.dumps(dataclasses.asdict(uvloop.run(take(load)))), flush=True)


if __name__ == "__main__":
    main()
