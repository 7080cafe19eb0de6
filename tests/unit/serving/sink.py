"""A real HTTP server that takes events, and misbehaves as it is told."""

import ssl
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import orjson

from tests.unit.serving.support import DEADLINE_SECONDS

HANG_UP = "hang up"
"""Closes the connection without an answer."""
HOLD = "hold"
"""Answers 200 only once `Sink.release` is set."""
DRIP = "drip"
"""Sends one byte of a header now and then, for ever."""

Behaviour = int | str | tuple[int, dict[str, str]]


@dataclass
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes
    at: float

    @property
    def data(self) -> Any:
        return orjson.loads(self.body)


@dataclass
class Sink:
    """Behaves as `script` says, request by request; the last entry stays."""

    script: list[Behaviour]
    port: int = 0
    received: list[Received] = field(default_factory=list)
    release: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    secure: bool = False

    @property
    def url(self) -> str:
        return f"http{'s' if self.secure else ''}://127.0.0.1:{self.port}/events?from=lepton"

    def identities(self) -> list[str]:
        return [request.headers["ce-id"] for request in self.received]

    def take(self, request: Received) -> Behaviour:
        with self.lock:
            self.received.append(request)
            return self.script.pop(0) if len(self.script) > 1 else self.script[0]


def handler_of(state: Sink) -> type[BaseHTTPRequestHandler]:
    """What answers as the state says."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            headers = {name.lower(): value for name, value in self.headers.items()}
            behaviour = state.take(Received(self.path, headers, body, time.monotonic()))
            if behaviour == HANG_UP:
                self.close_connection = True
            elif behaviour == DRIP:
                self._drip()
            elif behaviour == HOLD:
                assert state.release.wait(DEADLINE_SECONDS)
                self._answer(200, {})
            else:
                self._answer(*(behaviour if isinstance(behaviour, tuple) else (int(behaviour), {})))

        def do_GET(self) -> None:
            raise AssertionError("a redirect was followed")

        def _answer(self, status: int, headers: dict[str, str]) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(b"a word from the sink")

        def _drip(self) -> None:
            try:
                while not state.release.wait(0.02):
                    self.wfile.write(b"H")
            except OSError:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

    return Handler


@contextmanager
def sink(*script: Behaviour, context: ssl.SSLContext | None = None) -> Iterator[Sink]:
    """A sink that listens, with a `context` by TLS; without a script it takes everything."""
    state = Sink(list(script) or [202])

    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(state))
    server.daemon_threads = True
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        state.secure = True
    state.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        state.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
