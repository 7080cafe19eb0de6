"""Requests made up by machines: no fault of the server, and no memory that grows."""

import contextlib
import json
import os
import random
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from lepton_workloads.contract.data import Picture
from lepton_workloads.decode import DecodeError, decode_picture
from lepton_workloads.serve.bodies.json_tensors import load_object, read_tensor
from lepton_workloads.serve.http import HttpError
from tests.unit.serving.support import DEADLINE_SECONDS, SHAPE, Process, picture, write_artifact

FORMS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
GOOD = json.dumps({"instances": [np.zeros(SHAPE).tolist()]}).encode()
EXAMPLES = int(os.environ.get("LEPTON_FUZZ_EXAMPLES", "6"))
"""Of each route and way: `make fuzz` asks for many more, which takes minutes."""
MEGABYTE = 1024**2
Test = TypeVar("Test", bound=Callable[..., None])
TARGET = Picture(height=6, width=8)


@pytest.fixture(scope="module")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Process]:
    """A server of its own, so that its memory is known."""
    root: Path = tmp_path_factory.mktemp("fuzzed")
    write_artifact(root / "lepton" / "model")
    process = Process(root)
    try:
        yield process.wait_ready()
    finally:
        process.kill()


def examples(count: int) -> Callable[[Test], Test]:
    """The same made-up inputs in each run."""
    chosen: Callable[[Test], Test] = settings(
        max_examples=count,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    return chosen


def resident(server: Process) -> int:
    """Bytes of memory of the server's process."""
    pages = Path(f"/proc/{server.process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_requests_made_from_the_openapi_document(fuzzed: Process, mode: GenerationMode) -> None:
    schema = schemathesis.openapi.from_url(f"http://127.0.0.1:{fuzzed.port}/openapi.json")
    checks = [not_a_server_error, content_type_conformance, response_schema_conformance]
    if mode is GenerationMode.POSITIVE:
        checks.append(status_code_conformance)
    asked = 0
    for found in schema.get_all_operations():
        assert isinstance(found, Ok), found
        operation = found.ok()
        if "{version}" in operation.path or "{label}" in operation.path:
            continue  # the same handlers
        if mode is GenerationMode.NEGATIVE and (
            operation.path.endswith(":explain") or "{" not in operation.path
        ):
            continue  # the body of :predict, or nothing that could be wrong

        @examples(EXAMPLES if mode is GenerationMode.POSITIVE else EXAMPLES // 2)
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal asked
            asked += 1
            response = case.call(timeout=DEADLINE_SECONDS)
            if response.status_code not in (501, 503, 504):
                case.validate_response(response, checks=checks)

        ask()
    assert asked > 2 * EXAMPLES
    assert fuzzed.predict(GOOD).status == 200


def mutated(good: list[bytes]) -> st.SearchStrategy[bytes]:
    """One of these with bytes changed, cut out, doubled or put in."""

    @st.composite
    def mutate(draw: st.DrawFn) -> bytes:
        data = bytearray(draw(st.sampled_from(good)))
        for _ in range(draw(st.integers(1, 6))):
            start = draw(st.integers(0, max(0, len(data) - 1)))
            end = min(len(data), start + draw(st.integers(0, 32)))
            way = draw(st.sampled_from(("change", "cut", "double", "put", "end")))
            if way == "change":
                data[start : start + 4] = draw(st.binary(min_size=1, max_size=4))
            elif way == "cut":
                del data[start:end]
            elif way == "double":
                data[start:start] = data[start:end] * draw(st.integers(1, 50))
            elif way == "put":
                data[start:start] = draw(st.binary(max_size=16))
            else:
                del data[start:]
        return bytes(data)

    return mutate()


PICTURES = [picture(form, size=(20, 15)) for form in FORMS]


@examples(EXAMPLES * 60)
@given(data=mutated(PICTURES))
def test_broken_pictures_are_pixels_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(DecodeError):
        assert decode_picture(data, TARGET, max_pixels=10**6).shape == (6, 8, 3)


ODD = b'{"instances": [1e999, NaN, -0, 1E400, true, null, "\\ud800", {"b64": ""}, [[[]]], 123456789012345678901]}'


@examples(EXAMPLES * 60)
@given(data=mutated([GOOD, GOOD[:200], ODD]))
def test_broken_json_is_numbers_or_a_sentence(data: bytes) -> None:
    with contextlib.suppress(HttpError):
        values = load_object(data, SHAPE, "instances").get("instances")
        if isinstance(values, list):
            tensor = read_tensor(values, SHAPE, "instances", no_booleans=False)
            assert tensor.shape[1:] == SHAPE
            assert np.isfinite(tensor).all()


@examples(EXAMPLES * 10)
@given(
    data=mutated(
        [
            b"POST /v1/models/digits:predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b"
            % (len(GOOD), GOOD),
            b"POST /classify HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            b"GET /v2/models/digits HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: h2c\r\n\r\n",
        ]
    )
)
def test_broken_http_is_answered_or_closed(fuzzed: Process, data: bytes) -> None:
    with socket.create_connection(("127.0.0.1", fuzzed.port), timeout=DEADLINE_SECONDS) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        try:
            while piece := connection.recv(65536):
                received += piece
        except ConnectionResetError:
            received = received or b"HTTP/1.1 reset"
    for line in received.split(b"\r\n"):
        if line.startswith(b"HTTP/1.1 5"):
            assert line[9:12] in (b"501", b"503", b"505"), received


def test_memory_stays_flat_under_bad_requests(fuzzed: Process) -> None:
    """The first rounds fill caches and pools; after them memory must not follow the number of requests."""
    chance = random.Random(5)
    brackets = b'{"instances": [' + b"[]," * 60_000 + b"0]}"
    bodies = [GOOD[:300], ODD, b"[" * 10_000, brackets, b'{"instances": 1}', b"\xff" * 1000]
    files = [data[: len(data) * 2 // 3] for data in PICTURES]

    def ask(count: int) -> None:
        connection = fuzzed.connect()
        for index in range(count):
            if index % 3:
                path, body = "/v1/models/digits:predict", chance.choice(bodies)
            else:
                path, body = f"/classify?top={index % 7}", chance.choice(files)
            connection.request("POST", path, body)
            response = connection.getresponse()
            assert response.read()
            assert response.status == 400, (path, body[:40])
        for index in range(count // 10):
            connection.request("GET", f"/no/{index}/{chance.random()}")
            assert connection.getresponse().read()
        connection.close()

    ask(600)
    before = resident(fuzzed)
    ask(3000)
    assert resident(fuzzed) - before < 8 * MEGABYTE
    assert fuzzed.metric("lepton_server_request_body_bytes") == 0
    assert fuzzed.metric("lepton_server_in_flight_requests") == 1
    assert fuzzed.predict(GOOD).status == 200


def test_nothing_of_all_this_was_a_fault(fuzzed: Process) -> None:
    assert fuzzed.lines("Failed to answer a request") == []
    assert fuzzed.process.poll() is None
