"""A reverse proxy between one operator and the API server, in which everything can go wrong.

Plain HTTP on 127.0.0.1 to the operator, TLS with the operator's own token to the server. It counts and
records, calls hooks around each write, answers faults, and passes what watches tell through a gate.
"""

import asyncio
import contextlib
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp import web

from tests.integration.background import Background
from tests.integration.gate import Event, Gate, Stream
from tests.integration.kube import Kube
from tests.integration.traffic import Call, Fault

MAX_LINE = 4 * 1024 * 1024
PASSED_ON = ("Accept", "Authorization", "Content-Type", "User-Agent")

Hook = Callable[[Call], Awaitable[None]]


class Cut(Exception):
    """Raised by a hook: the connection ends here, without an answer."""


async def nothing(_call: Call) -> None:
    """A hook that does nothing."""


class Proxy:
    """One listener, for one operator at a time."""

    def __init__(self, kube: Kube, background: Background) -> None:
        self._kube = kube
        self._background = background
        self.calls: list[Call] = []
        """Everything since the start, in the order of arrival."""
        self.faults: list[Fault] = []
        """The first that matches a call meets it; see `disturbed`."""
        self.gate = Gate()
        self.before_write: Hook = nothing
        """Awaited when a write has arrived; the server sees it only afterwards. May raise Cut."""
        self.after_write: Hook = nothing
        """Awaited when the server has done a write; the operator is told only afterwards. May raise Cut."""
        self.url = ""
        self._severed = False
        self._writes = 0
        self._streams: set[Stream] = set()
        self._session: aiohttp.ClientSession | None = None
        self._runner: web.ServerRunner | None = None

    # -- for tests, from any thread -------------------------------------------------------------------

    def start(self) -> None:
        """Listen."""
        self._background.call(self._start())

    def stop(self) -> None:
        """Cut everything."""
        self._background.call(self._stop())

    def writes(self) -> list[Call]:
        """All writes so far."""
        return [call for call in self.calls if call.is_write]

    def sever(self) -> None:
        """No request reaches the server any more, until `restore`: the operator behind is dead."""
        self._severed = True

    def restore(self) -> None:
        """Serve again (the next operator)."""
        self._severed = False

    @contextmanager
    def disturbed(self, *faults: Fault) -> Iterator[None]:
        """These faults are in force; before those that are already."""
        self.faults[:0] = faults
        try:
            yield
        finally:
            self.faults = [fault for fault in self.faults if fault not in faults]
            for fault in faults:
                self._background.call_soon(fault.over.set)

    def cut_watches(self) -> None:
        """End all watches, in the middle of nothing."""
        self._background.do(self._end_watches)

    def tell_watches(self, event: dict[str, object]) -> None:
        """Send an event of one's own, such as an ERROR with code 410, on every watch, and end them."""
        line = json.dumps(event).encode() + b"\n"
        self._background.do(lambda: self._end_watches(line))

    def watch_count(self) -> int:
        """Watches that are open."""
        return len(self._streams)

    def freeze(self, after: int = 0, resources: frozenset[str] | None = None) -> None:
        """From that event on, watches (of these resources) tell nothing."""

        def freeze() -> None:
            self.gate.freeze_after, self.gate.frozen = after, resources

        self._background.do(freeze)

    def thaw(self) -> None:
        """Watches tell what was held, and go on."""
        self._background.do(self.gate.open)

    def hold_all(self, *, merge: bool) -> None:
        """Watches tell nothing but what `release` lets through; merged: the last event of each object."""

        def hold() -> None:
            self.gate.passes, self.gate.merges = lambda _event: False, merge

        self._background.do(hold)

    def release(self, reverse: bool = False) -> int:
        """Watches tell what is held now, see Gate; how many events that were."""
        return self._background.do(lambda: self.gate.release(reverse))

    # -- the loop's side ------------------------------------------------------------------------------

    async def _start(self) -> None:
        tls = ssl.create_default_context(cafile=str(self._kube.ca_file))
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=tls),
            read_bufsize=MAX_LINE,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        # A watch whose operator is dead must end, though nothing is written to it.
        server = web.Server(self._handle, access_log=None, handler_cancellation=True)
        self._runner = web.ServerRunner(server, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"

    async def _stop(self) -> None:
        self.sever()
        self._end_watches()
        for fault in self.faults:
            fault.over.set()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._session is not None:
            await self._session.close()

    def _end_watches(self, last: bytes = b"") -> None:
        for stream in self._streams:
            if last:
                stream.lines.put_nowait(last)
            stream.lines.put_nowait(None)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        watch = request.query.get("watch") in ("true", "1")
        call = Call(
            verb="WATCH" if watch else request.method,
            path=request.path,
            query=dict(request.query),
            agent=request.headers.get("User-Agent", ""),
            token=request.headers.get("Authorization", ""),
        )
        if self._severed:
            raise self._cut(request)
        if call.is_write:
            self._writes += 1
            call.number = self._writes
            call.body = json.loads(body) if body else None
        self.calls.append(call)
        work = asyncio.create_task(self._answer(request, call, body))
        try:
            # A write that is on its way arrives, even if the operator that sent it is dead by now.
            return await (asyncio.shield(work) if call.is_write else work)
        except (Cut, aiohttp.ClientError):
            raise self._cut(request) from None

    async def _answer(self, request: web.BaseRequest, call: Call, body: bytes) -> web.StreamResponse:
        if call.is_write:
            await self.before_write(call)
        fault = next((fault for fault in self.faults if fault.match(call)), None)
        if fault is not None and not fault.lose:
            return await self._disturb(call, fault)
        if self._severed:
            raise Cut
        upstream = await self._send(request, body)
        if call.verb == "WATCH" and upstream.status == 200:
            return await self._watch(request, call, upstream)
        async with upstream:
            data = await upstream.read()
        if call.is_write:
            call.answer = json.loads(data)
            call.code = upstream.status
            await self.after_write(call)
        if fault is not None:
            fault.hits += 1
            raise Cut
        call.code = upstream.status
        if self._severed:
            raise Cut
        kept = {name: upstream.headers[name] for name in ("Retry-After",) if name in upstream.headers}
        return web.Response(
            status=upstream.status, body=data, headers=kept, content_type=upstream.content_type
        )

    async def _disturb(self, call: Call, fault: Fault) -> web.StreamResponse:
        fault.hits += 1
        if fault.reset:
            raise Cut
        if fault.hang:
            await fault.over.wait()
            raise Cut
        call.code = fault.code
        return web.json_response(fault.status(), status=fault.code, headers=fault.headers)

    async def _send(self, request: web.BaseRequest, body: bytes) -> aiohttp.ClientResponse:
        assert self._session is not None, "the proxy is started"
        headers = {name: request.headers[name] for name in PASSED_ON if name in request.headers}
        url = self._kube.server + request.path_qs
        return await self._session.request(request.method, url, headers=headers, data=body or None)

    async def _watch(
        self, request: web.BaseRequest, call: Call, upstream: aiohttp.ClientResponse
    ) -> web.StreamResponse:
        call.code = 200
        stream = Stream(call.resource)
        self._streams.add(stream)
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        reader = asyncio.create_task(self._read(stream, upstream))
        try:
            await response.prepare(request)
            while (line := await stream.lines.get()) is not None:
                await response.write(line)
            return response
        except (ConnectionError, asyncio.CancelledError):
            raise Cut from None
        finally:
            reader.cancel()
            upstream.close()
            self._streams.discard(stream)
            self.gate.forget(stream)

    async def _read(self, stream: Stream, upstream: aiohttp.ClientResponse) -> None:
        with contextlib.suppress(aiohttp.ClientError, ConnectionError):
            while line := await upstream.content.readline():
                parsed = json.loads(line)
                self.gate.take(stream, Event(stream.resource, parsed["type"], parsed["object"], line))
        stream.lines.put_nowait(None)

    def _cut(self, request: web.BaseRequest) -> BaseException:
        """End the connection without an answer."""
        if request.transport is not None:
            request.transport.abort()
        return asyncio.CancelledError()
