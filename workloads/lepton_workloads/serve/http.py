"""Requests, answers and errors, on bare ASGI; bodies are bounded while they are read."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from lepton_workloads.serve.caller import Caller

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Headers = list[tuple[bytes, bytes]]

JSON_TYPE = b"application/json"
RETRY_SECONDS = 1
BODY_SECONDS = 60
"""A body that is not whole after this time is given up: a slow client must not hold memory for ever."""
SMALL_BODY_SECONDS = 10
BODY_BYTES_PER_SECOND = 8 * 1024
"""A body that says its length gets SMALL_BODY_SECONDS and the time that it takes at this rate."""


class HttpError(Exception):
    """An answer other than 200; `message` is a sentence for the person who sent the request."""

    def __init__(self, status: int, message: str, headers: Headers | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or []


class Disconnected(Exception):
    """The client went away; nobody waits for an answer."""


def overloaded(message: str) -> HttpError:
    """503 with the time after which another try makes sense."""
    return HttpError(503, message, [(b"retry-after", b"%d" % RETRY_SECONDS)])


@dataclass(slots=True)
class Request:
    """One request; `body` is whole and within its limit when a handler sees it."""

    method: str
    path: str
    query: bytes
    headers: Headers
    caller: Caller = field(default_factory=Caller)
    body: bytes = b""
    params: Mapping[str, str] = field(default_factory=dict)
    _by_name: dict[bytes, bytes] | None = None

    def header(self, name: bytes) -> str:
        """Value of the first header of this (lower-case) name, or the empty string."""
        if self._by_name is None:
            self._by_name = dict(reversed(self.headers))
        value = self._by_name.get(name)
        return value.decode("latin-1").strip() if value else ""

    @property
    def media_type(self) -> str:
        """Content-Type without parameters, in lower case; empty when there is none."""
        return self.header(b"content-type").partition(";")[0].strip().lower()


@dataclass(slots=True)
class Response:
    """A whole answer."""

    body: bytes
    status: int = 200
    media_type: bytes = JSON_TYPE
    headers: Headers = field(default_factory=list)


def json_response(content: Any, status: int = 200) -> Response:
    """JSON of plain values and float32 arrays.

    orjson would write a number that is not finite as null; the engine lets none through (`engine.NotFinite`).
    """
    return Response(orjson.dumps(content, option=orjson.OPT_SERIALIZE_NUMPY), status)


def error_response(error: HttpError) -> Response:
    """`{"error": sentence}`, the form of TensorFlow Serving, for every failure of every route."""
    message = error.message.encode("utf-8", "replace").decode()
    return Response(orjson.dumps({"error": message}), error.status, headers=error.headers)


class BodyReader:
    """Reads bodies up to `limit` bytes each, and no more than `budget` bytes of all together."""

    def __init__(self, limit: int, budget: int) -> None:
        self._limit = limit
        self._budget = max(budget, limit)
        self.held = 0
        """Bytes of bodies that are being read or worked on."""

    async def read(self, request: Request, receive: Receive) -> bytes:
        """The body. Whoever calls it gives the bytes back with `release` when the request is done.

        Raises:
            HttpError: 408 too slow, 411 no length, 413 too large, 415 compressed, 501 encoded for the way,
                503 too many at once.
            Disconnected: the client went away before the body was whole.
        """
        seconds = self._check_headers(request)
        try:
            async with asyncio.timeout(seconds):
                return await self._read(receive)
        except TimeoutError:
            message = f"the body was not whole after {seconds:.0f} seconds"
            raise HttpError(408, message, [(b"connection", b"close")]) from None

    def release(self, body: bytes) -> None:
        """Gives the bytes of a body back to the budget."""
        self.held -= len(body)

    def _check_headers(self, request: Request) -> float:
        """How long the body may take."""
        if request.header(b"content-encoding").lower() not in ("", "identity"):
            raise HttpError(
                415,
                "a compressed body is not accepted: send it without Content-Encoding",
                [(b"accept-encoding", b"identity")],
            )
        length = request.header(b"content-length")
        if not length:
            coding = request.header(b"transfer-encoding").lower()
            if not coding:
                raise HttpError(411, "a body is needed: send it with a Content-Length")
            if coding != "chunked":
                message = "Transfer-Encoding: only chunked is accepted, without compression"
                raise HttpError(501, message, [(b"connection", b"close")])
            return BODY_SECONDS
        size = int(length)
        if size > self._limit:
            raise self._too_large()
        return min(BODY_SECONDS, SMALL_BODY_SECONDS + size / BODY_BYTES_PER_SECOND)

    async def _read(self, receive: Receive) -> bytes:
        chunks: list[bytes] = []
        size = 0
        whole = False
        try:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise Disconnected
                chunk: bytes = message.get("body", b"")
                chunks.append(chunk)
                size += len(chunk)
                self.held += len(chunk)
                if size > self._limit:
                    raise self._too_large()
                if self.held > self._budget:
                    raise overloaded("too many large requests are being worked on")
                if not message.get("more_body", False):
                    whole = True
                    return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        finally:
            if not whole:
                self.held -= size

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body is larger than the {self._limit} bytes that are accepted")
