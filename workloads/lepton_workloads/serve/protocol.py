"""HTTP/1 on one connection: uvicorn's protocol with limits for what a client may send, and how slowly.

Time is watched from outside: the server looks at every connection once a second (`end_if_late`), so that a
request costs no timer. Refusals have the form of all other errors, and come after the answers to the
requests before them.
"""

import asyncio
import heapq
import math
import time
from typing import cast

import httptools
import orjson
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

MAX_HEADER_BYTES = 32 * 1024
"""Of a header, and of what stands between the pieces of a chunked body."""
MAX_HEADERS = 100
MAX_CONNECTIONS = 4096
ROOM = 32
"""Idle connections that are ended at once when there are too many, since all are looked at to find them."""
MAX_PIPELINED = 64
"""Requests of one connection that wait for the answer to an earlier one."""
HEADER_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of the header."""
KEEP_ALIVE_SECONDS = 75
"""Longer than the usual 60 s of clients and proxies, so that they, who know, close idle connections first."""
REST_SECONDS = 10.0
"""How long the rest of a body may come after the answer, for clients that read only then."""
WRITE_SECONDS = 30.0
WRITE_BYTES_PER_SECOND = 64 * 1024
"""An answer must be taken within WRITE_SECONDS and at this rate: it is held in memory until then."""


class Refused(Exception):
    """Raised in the parser's callbacks for a request that is not let through."""

    def __init__(self, status: str, message: str) -> None:
        super().__init__(message)
        self.status = status


class HttpProtocol(HttpToolsProtocol):
    """One connection."""

    most_connections = MAX_CONNECTIONS
    """Fewer where the process may not open as many files."""

    _unparsed_bytes = 0
    """Received since the last whole header or piece of a body."""
    _in_header = False
    _in_body = False
    _idle_since = 0.0
    """When the last answer ended, or the connection began; finer than the milliseconds of the loop's time."""
    _deadline = math.inf
    """When the client must have done what it is waited for."""
    _write_deadline = math.inf
    _refusal: bytes | None = None
    """Is sent after the answers that are still being made; nothing more is read."""
    _upgrade = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called with a new connection."""
        super().connection_made(cast(asyncio.Transport, transport))
        self._idle_since = time.monotonic()
        self._deadline = self.loop.time() + HEADER_SECONDS
        if len(self.connections) > self.most_connections and not self._make_room():
            self._refuse("503 Service Unavailable", "there are too many connections")

    def data_received(self, data: bytes) -> None:
        """Called with each piece of a connection's bytes."""
        if self._refusal is not None or self.transport.is_closing():
            return
        self._unset_keepalive_if_required()
        self._unparsed_bytes += len(data)
        if not self._in_body and self._deadline == math.inf:
            self._deadline = self.loop.time() + HEADER_SECONDS
        try:
            self._feed(data)
        except httptools.HttpParserError as error:
            self._refuse(*_reason(error))
            return
        if self._unparsed_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
            message = f"the header is too large: at most {MAX_HEADER_BYTES} bytes are accepted"
            self._refuse("431 Request Header Fields Too Large", message)

    def on_message_begin(self) -> None:
        """Called by the parser with the first byte of a request."""
        self._in_header = True
        self._deadline = self.loop.time() + HEADER_SECONDS
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Called by the parser."""
        self._unparsed_bytes = 0
        self._in_header = False
        if self.parser.should_upgrade() and self.parser.get_method() != b"CONNECT":
            self._upgrade = True
            return
        self._check_head()
        self._in_body = True
        self._deadline = math.inf
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Called by the parser."""
        self._unparsed_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Called by the parser."""
        self._unparsed_bytes = 0
        if self._upgrade:
            return
        self._in_body = False
        if self.cycle.response_complete:  # this was the rest of a body: the connection is idle now
            self._deadline = self.loop.time() + KEEP_ALIVE_SECONDS
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """Called when an answer has been handed to the transport."""
        if self._refusal is not None and not self.pipeline:
            self._end(self._refusal)
            return
        super().on_response_complete()
        self._idle_since = time.monotonic()
        if self._in_body and self.cycle.response_complete:
            self._deadline = self.loop.time() + REST_SECONDS

    def pause_writing(self) -> None:
        """Called by the transport when the client takes its answers more slowly than they are made."""
        self._write_deadline = self._slowest_write()
        super().pause_writing()

    def resume_writing(self) -> None:
        """Called by the transport when the client has taken most of what waited."""
        self._write_deadline = math.inf
        super().resume_writing()

    def is_idle(self) -> bool:
        """Whether nothing is under way: the client has had all of its answers, and sends nothing."""
        return not (self._in_header or self._in_body or self._is_answering() or self.transport.is_closing())

    def end_if_late(self, now: float) -> None:
        """Ends the connection whose client lets it wait too long; called once a second."""
        if now > self._write_deadline:
            self.transport.abort()
        elif self.transport.is_closing():
            self._write_deadline = min(self._write_deadline, self._slowest_write())
        elif now > self._deadline:
            if self._in_header:
                message = f"the header was not whole after {HEADER_SECONDS:g} seconds"
                self._refuse("408 Request Timeout", message)
            else:
                self.transport.close()

    def _make_room(self) -> bool:
        """Ends the connections that have been idle for longest; whether this one may stay."""
        others = [cast(HttpProtocol, one) for one in self.connections if one is not self]
        ending = sum(one.transport.is_closing() for one in others)
        if ending == 0:
            idle = [one for one in others if one.is_idle()]
            longest = heapq.nsmallest(min(ROOM, len(others) // 2), idle, key=lambda one: one._idle_since)
            for one in longest:
                one.transport.close()
            ending = len(longest)
        return len(others) - ending < self.most_connections

    def _slowest_write(self) -> float:
        waiting = self.transport.get_write_buffer_size()
        return self.loop.time() + WRITE_SECONDS + waiting / WRITE_BYTES_PER_SECOND

    def _feed(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._upgrade = False
            self._feed_without_upgrade(data[upgrade.args[0] :])

    def _feed_without_upgrade(self, rest: bytes) -> None:
        """Reads a request that offers another protocol, such as h2c, again without the offer.

        The parser takes the body of such a request for the other protocol's first bytes; Java's client and
        `curl --http2` make the offer with every request.
        """
        if not self._upgrade_is_offered():
            raise httptools.HttpParserError("another protocol is asked for")
        close = any(name == b"connection" and b"close" in value.lower() for name, value in self.headers)
        kept = [header for header in self.headers if header[0] not in (b"upgrade", b"connection")]
        if close:
            kept.append((b"connection", b"close"))
        head = [self.parser.get_method(), b" ", self.url, b" HTTP/1.1\r\n"]
        for name, value in kept:
            head += [name, b": ", value, b"\r\n"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self._feed(b"".join(head) + b"\r\n" + rest)

    def _upgrade_is_offered(self) -> bool:
        return any(name == b"upgrade" for name, _ in self.headers)

    def _check_head(self) -> None:
        if len(self.headers) > MAX_HEADERS:
            message = f"there are too many headers: at most {MAX_HEADERS} are accepted"
            raise Refused("431 Request Header Fields Too Large", message)
        version = self.parser.get_http_version()
        if version not in ("1.1", "1.0"):
            raise Refused("505 HTTP Version Not Supported", "HTTP/1.1 and HTTP/1.0 are spoken here")
        hosts = 0
        for name, _ in self.headers:
            if name == b"host":
                hosts += 1
        if hosts != 1 and (hosts or version == "1.1"):
            raise Refused("400 Bad Request", "a request must have exactly one header Host")
        if len(self.pipeline) >= MAX_PIPELINED:
            message = f"at most {MAX_PIPELINED} requests may wait on one connection"
            raise Refused("503 Service Unavailable", message)
        if not self.url.startswith(b"/"):
            self._read_other_target()

    def _read_other_target(self) -> None:
        """`http://host/path` is taken by its path, as RFC 9112 (3.2.2) asks servers to; `*` is OPTIONS' own."""
        if self.parser.get_method() == b"CONNECT":
            raise Refused("400 Bad Request", "this is no proxy: CONNECT is not possible")
        try:
            if self.url != b"*" and not httptools.parse_url(self.url).path:
                self.url = b"/"
        except httptools.HttpParserInvalidURLError:
            raise Refused("400 Bad Request", "the address of the request can't be read") from None

    def _refuse(self, status: str, message: str) -> None:
        body = orjson.dumps({"error": message})
        head = f"HTTP/1.1 {status}\r\ncontent-type: application/json\r\nconnection: close\r\n"
        refusal = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
        waiting = self._take_back() if self._in_body else self._is_answering()
        if waiting:
            self._refusal = refusal
        else:
            self._end(refusal)

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete

    def _take_back(self) -> bool:
        """Ends the request whose body can't be read; whether earlier ones are still being answered."""
        cycle: RequestResponseCycle = self.cycle
        if self.pipeline and self.pipeline[0][0] is cycle:
            self.pipeline.popleft()
            return True
        if cycle.response_started:
            self.transport.close()  # a second answer would be taken for that of another request
        else:
            cycle.disconnected = True
            cycle.message_event.set()
        return False

    def _end(self, refusal: bytes) -> None:
        if not self.transport.is_closing():
            self.transport.write(refusal)
            self.transport.close()


def _reason(error: httptools.HttpParserError) -> tuple[str, str]:
    cause = error.__context__
    if isinstance(cause, Refused):
        return cause.status, str(cause)
    if cause is not None:  # of uvicorn's callbacks, which read the address
        return "400 Bad Request", "the address of the request can't be read"
    return "400 Bad Request", f"this is no valid HTTP request: {error}"
