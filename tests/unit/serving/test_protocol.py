"""HTTP on the wire: odd and hostile requests, slow clients, and that the server works on after each."""

import contextlib
import json
import socket
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from lepton_workloads.serve import protocol
from lepton_workloads.serve.protocol import HttpProtocol
from tests.unit.serving.support import (
    DEADLINE_SECONDS,
    SHAPE,
    FakeEngine,
    InProcess,
    Process,
    in_thread,
    until,
)

PREDICT = b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\n"
BODY = json.dumps({"instances": [np.zeros(SHAPE).tolist()]}).encode()
LENGTH = b"Content-Length: %d\r\n" % len(BODY)
CHUNKED = b"Transfer-Encoding: chunked\r\n"
CHUNKS = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)
CLOSE = b"Connection: close\r\n"
LAST = b"GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


def dialogue(port: int, *parts: bytes) -> list[tuple[int, bytes]]:
    """Status and body of all answers to these bytes, until the server closes the connection."""
    with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_SECONDS) as connection:
        with contextlib.suppress(ConnectionError):  # it may close before all is sent
            for part in parts:
                connection.sendall(part)
        return answers(connection)


def answers(connection: socket.socket) -> list[tuple[int, bytes]]:
    received = b""
    with contextlib.suppress(ConnectionResetError):
        while chunk := connection.recv(65536):
            received += chunk
    found = []
    while received:
        head, _, received = received.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        length = sum(int(line.split(b":")[1]) for line in lines if line.startswith(b"content-length:"))
        found.append((int(lines[0].split()[1]), received[:length]))
        received = received[length:]
    return found


def statuses(port: int, *parts: bytes) -> list[int]:
    return [status for status, _ in dialogue(port, *parts)]


def in_process() -> InProcess:
    server = InProcess(lambda: FakeEngine(lambda batch: np.full((len(batch), 4), 0.25, np.float32)))
    until(server.ready, "the server")
    return server


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., InProcess]]:
    """Starts a server with other limits."""
    started: list[InProcess] = []

    def start(**limits: float) -> InProcess:
        for name, value in limits.items():
            monkeypatch.setattr(protocol, name, value)
        started.append(in_process())
        return started[0]

    yield start
    for server in started:
        server.stop()


@pytest.mark.parametrize(
    "request_",
    [
        PREDICT + LENGTH * 2 + b"\r\n" + BODY,
        PREDICT + LENGTH + b"Content-Length: 1\r\n\r\n" + BODY,
        PREDICT + b"Content-Length: 5, 5\r\n\r\n12345",
        PREDICT + b"Content-Length: +5\r\n\r\n12345",
        PREDICT + b"Content-Length: -5\r\n\r\n12345",
        PREDICT + b"Content-Length: 0x5\r\n\r\n12345",
        PREDICT + b"Content-Length: \r\n\r\n",
        PREDICT + b"Content-Length: " + b"9" * 40 + b"\r\n\r\n",
        PREDICT + LENGTH + CHUNKED + b"\r\n" + CHUNKS,
        PREDICT + CHUNKED + LENGTH + b"\r\n" + CHUNKS,
        PREDICT + b"Transfer-Encoding: gzip\r\n\r\n" + BODY,
        PREDICT + b"Transfer-Encoding: chunked, identity\r\n\r\n" + CHUNKS,
        PREDICT + CHUNKED + b"Transfer-Encoding: identity\r\n\r\n" + CHUNKS,
        PREDICT + b"Transfer-Encoding: xchunked\r\n\r\n" + CHUNKS,
        PREDICT + b"Transfer-Encoding : chunked\r\n\r\n" + CHUNKS,
        PREDICT + CHUNKED + b"\r\nzz\r\n" + BODY,
        PREDICT + CHUNKED + b"\r\n" + b"f" * 30 + b"\r\n" + BODY,
        PREDICT + CHUNKED + b"\r\n5\n12345\n0\n\n",
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\r\n folded\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX(: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
        b"GET /healthz HTTP/1.1\nHost: a\n\n",
        b"GET healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /é HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
        b"GET http:// HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        b"CONNECT x:443 HTTP/1.1\r\nHost: x\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    ],
)
def test_what_can_be_read_in_two_ways_or_none_is_400(served: Process, request_: bytes) -> None:
    found = dialogue(served.port, request_, LAST)
    assert [status for status, _ in found] == [400], found  # what follows is not taken for a request
    assert json.loads(found[0][1])["error"]
    assert served.predict(BODY).status == 200


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (PREDICT + b"Transfer-Encoding: gzip, chunked\r\n\r\n" + CHUNKS, [501]),
        (b"GET /healthz HTTP/2.0\r\nHost: x\r\n\r\n", [505]),
        (b"GET /healthz\r\n\r\n", [505]),
        (b"GET /healthz HTTP/1.1\r\n" + b"X: x\r\n" * 101 + b"\r\n", [431]),
        (b"OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", [404]),
    ],
)
def test_what_is_not_supported_is_told(served: Process, request_: bytes, expected: list[int]) -> None:
    found = dialogue(served.port, request_)
    assert [status for status, _ in found] == expected
    assert json.loads(found[0][1])["error"]


@pytest.mark.parametrize(
    ("request_", "expected"),
    [
        (PREDICT + LENGTH + b"\r\n" + BODY, [200]),
        (PREDICT + CHUNKED + b"\r\n" + CHUNKS, [200]),
        (PREDICT + CHUNKED + b"\r\n" + CHUNKS[:-2] + b"Trailer: x\r\n\r\n", [200]),
        (PREDICT + b"Expect: 100-continue\r\n" + LENGTH + b"\r\n" + BODY, [100, 200]),
        (b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
        (b"GET http://x:80/healthz?a=b HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
        (b"GET http://x HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", [200]),
        (b"GET /v1/models/dig%69ts HTTP/1.1\r\nHost: x\r\n\r\n", [200]),
        (b"GET //healthz HTTP/1.1\r\nHost: x\r\n\r\n", [404]),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 5, [200] * 5),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nNONSENSE\r\n\r\n", [200, 400]),
        ((PREDICT + LENGTH + b"\r\n" + BODY) * 3 + PREDICT + CHUNKED + b"\r\nzz", [200] * 3 + [400]),
    ],
)
def test_what_is_unusual_but_right_is_answered(served: Process, request_: bytes, expected: list[int]) -> None:
    wanted = expected if expected[-1] == 400 else [*expected, 200]
    assert statuses(served.port, request_, LAST) == wanted


def test_http_1_0_is_answered_and_closed(served: Process) -> None:
    for keep in (b"", b"Connection: keep-alive\r\n"):
        assert statuses(served.port, b"GET /healthz HTTP/1.0\r\n" + keep + b"\r\n") == [200]


UPGRADE = (
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n"
)


@pytest.mark.parametrize("body", [LENGTH + b"\r\n" + BODY, CHUNKED + b"\r\n" + CHUNKS])
@pytest.mark.parametrize("split", [None, len(PREDICT), len(PREDICT + UPGRADE) + 300])
def test_an_offer_of_another_protocol_is_not_taken(served: Process, body: bytes, split: int | None) -> None:
    whole = PREDICT + UPGRADE + body + LAST
    parts = [whole] if split is None else [whole[:split], whole[split:]]
    assert statuses(served.port, *parts) == [200, 200]
    get = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, close\r\nUpgrade: websocket\r\n\r\n"
    assert statuses(served.port, get) == [200]


def test_after_an_early_answer_the_missing_body_is_not_waited_for(served: Process) -> None:
    head = PREDICT + b"Expect: 100-continue\r\nContent-Length: 99999999\r\n\r\n"
    assert statuses(served.port, head) == [413]


@pytest.mark.parametrize("path", [b"/healthz", b"/classify"])
def test_endless_trailers_and_chunk_extensions_are_cut(served: Process, path: bytes) -> None:
    method = b"GET" if path == b"/healthz" else b"POST"
    head = method + b" " + path + b" HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for part in (b"X: " + b"x" * 100, b"X: x\r\n" * 20):
        with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_SECONDS) as connection:
            connection.sendall(head + b"0\r\n")
            with pytest.raises(ConnectionError):  # noqa: PT012
                while True:
                    connection.sendall(part)
    with socket.create_connection(("127.0.0.1", served.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(head + b"5;")
        with pytest.raises(ConnectionError):  # noqa: PT012
            while True:
                connection.sendall(b"x" * 100)
    assert served.ready()


@pytest.mark.parametrize("first", [b"", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"])
def test_a_header_that_does_not_end_is_given_up(quick: Callable[..., InProcess], first: bytes) -> None:
    server = quick(HEADER_SECONDS=0.3)
    found = dialogue(server.port, first, b"GET / HTTP/1.1\r\nHost:")
    assert found[-1][0] == 408
    assert "header" in json.loads(found[-1][1])["error"]


def test_a_connection_without_a_byte_is_closed(quick: Callable[..., InProcess]) -> None:
    assert dialogue(quick(HEADER_SECONDS=0.3).port) == []


def test_the_rest_of_a_refused_body_is_not_waited_for_long(quick: Callable[..., InProcess]) -> None:
    server = quick(REST_SECONDS=0.3)
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
    assert statuses(server.port, head, b"x" * 1000) == [404]


def test_a_connection_is_idle_after_the_rest_of_a_refused_body(quick: Callable[..., InProcess]) -> None:
    server = quick(KEEP_ALIVE_SECONDS=0.3)
    head = b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n"
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(head)
        assert connection.recv(65536).startswith(b"HTTP/1.1 404 ")
        connection.sendall(b"x" * 10)
        assert answers(connection) == []


def test_who_does_not_read_the_answers_is_cut_off(quick: Callable[..., InProcess]) -> None:
    server = quick(WRITE_SECONDS=0.2, WRITE_BYTES_PER_SECOND=10**9)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(DEADLINE_SECONDS)
    connection.connect(("127.0.0.1", server.port))
    with connection, pytest.raises(ConnectionError):  # noqa: PT012
        while True:
            connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20)
    assert server.ready()
    until(lambda: server.metric("lepton_server_in_flight_requests") == 1, "the request to end")


@pytest.fixture
def filled(
    quick: Callable[..., InProcess], monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[InProcess, list[socket.socket]]]:
    """A server that takes four connections, and four that are open; in the end there is room again."""
    server = quick()
    monkeypatch.setattr(HttpProtocol, "most_connections", 4)
    with contextlib.ExitStack() as stack:
        address = ("127.0.0.1", server.port)
        held = [stack.enter_context(socket.create_connection(address, DEADLINE_SECONDS)) for _ in range(4)]
        for connection in held:
            healthy(connection)
        yield server, held
    until(server.ready, "room again")


def test_more_connections_than_the_limit_end_those_idle_for_longest(
    filled: tuple[InProcess, list[socket.socket]],
) -> None:
    server, held = filled
    healthy(held[0])
    assert statuses(server.port, LAST) == [200]
    for connection in held[1:3]:
        assert connection.recv(1) == b""
    for connection in (held[0], held[3]):
        healthy(connection)


def test_more_connections_than_the_limit_are_refused_when_all_are_busy(
    filled: tuple[InProcess, list[socket.socket]],
) -> None:
    server, held = filled
    for connection in held:
        connection.sendall(PREDICT + LENGTH + b"\r\n" + BODY[:10])
    until(lambda: all_busy(server, len(held)), "that the requests have begun")
    found = dialogue(server.port)
    assert found[0][0] == 503
    assert "connections" in json.loads(found[0][1])["error"]
    held[0].sendall(BODY[10:])
    assert held[0].recv(65536).startswith(b"HTTP/1.1 200 ")


def healthy(connection: socket.socket) -> None:
    connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
    assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")


def all_busy(server: InProcess, count: int) -> bool:
    connections = list(server.server.server_state.connections)
    return len(connections) == count and not any(connection.is_idle() for connection in connections)


def test_pipelined_requests_are_bounded() -> None:
    fake = FakeEngine()
    server = InProcess(lambda: fake)
    until(server.ready, "the server")
    with socket.create_connection(("127.0.0.1", server.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(PREDICT + LENGTH + b"\r\n" + BODY)
        assert fake.entered.wait(DEADLINE_SECONDS)
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        fake.gate.set()
        found = [status for status, _ in answers(connection)]
    assert found == [200] * 65 + [503]
    server.stop()


def test_slow_clients_do_not_slow_others(quick: Callable[..., InProcess]) -> None:
    server = quick()
    with contextlib.ExitStack() as stack:
        for _ in range(200):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", server.port)))
            connection.sendall(PREDICT + b"Content-Length: 1000\r\n\r\n{")
        until(lambda: server.metric("lepton_server_in_flight_requests") == 201, "all of them")
        thread, found = in_thread(lambda: server.predict(BODY))
        thread.join(DEADLINE_SECONDS)
        assert found[0].status == 200
    until(lambda: server.metric("lepton_server_in_flight_requests") == 1, "their end")
