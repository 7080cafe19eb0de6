"""What the fuzzer calls: `python -m tests.unit.serving.coverage_guided TARGET [options of libFuzzer] [corpus]`.

A process of its own, since libFuzzer ends the one it runs in. An input that makes the server answer 500, or
that anything is raised for, ends it with an error and is written to the folder that -artifact_prefix names.
"""

import asyncio
import contextlib
import json
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import atheris

with atheris.instrument_imports(include=["lepton_workloads", "multipart"]):
    import numpy as np
    from google.protobuf.message import DecodeError as NoMessage

    from lepton_workloads.contract.data import Picture
    from lepton_workloads.decode import DecodeError, decode_picture
    from lepton_workloads.serve.caller import Caller
    from lepton_workloads.serve.http import HttpError
    from lepton_workloads.serve.model import Model
    from lepton_workloads.serve.rpc import open_inference, tensorflow_serving
    from lepton_workloads.serve.runner import compose
    from lepton_workloads.serve.settings import Settings
    from tests.unit.serving.support import FORM, LABELS, SIGNATURE, TASK, FakeEngine

Target = Callable[[bytes], None]

ROUTES = ("/v1/models/digits:predict", "/v2/models/digits/infer", "/classify", "/explain")
KINDS = ("application/json", "application/octet-stream", "image/jpeg", FORM)
METHODS = (
    "ServerLive",
    "ServerReady",
    "ServerMetadata",
    "ModelReady",
    "ModelMetadata",
    "ModelInfer",
    "Predict",
    "GetModelMetadata",
    "GetModelStatus",
)
BINARY_HEADER = b"inference-header-content-length"
MISSING = (501, 503, 504)
"""Codes from 500 on that are no fault: an engine without maps, and overload."""


def _answer(batch: Any) -> Any:
    return np.full((len(batch), len(LABELS)), 0.25, np.float32)


def served() -> tuple[Callable[..., Awaitable[None]], Model]:
    """The whole application but its sockets, and its model."""
    settings = Settings(task=TASK, model_dir=Path("/nowhere"), port=0, threads=1, access_log=0)
    server, model = compose(settings, SIGNATURE, lambda: FakeEngine(_answer))
    return server.config.app, model


def http() -> Target:
    """Bodies for every route that reads one; the first bytes of an input choose route, type and binary part."""
    app, model = served()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.load())

    def ask(data: bytes) -> None:
        if len(data) < 3:
            return
        choice, head, body = data[0], data[1], data[2:]
        kind = KINDS[choice // len(ROUTES) % len(KINDS)]
        headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
        if head:
            headers.append((BINARY_HEADER, str(head).encode()))
        loop.run_until_complete(_ask(app, ROUTES[choice % len(ROUTES)], headers, body))

    return ask


async def _ask(
    app: Callable[..., Awaitable[None]], path: str, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "headers": headers}
    await app(scope, receive, send)
    start, answer = sent
    status = start["status"]
    assert status < 500 or status in MISSING, (status, answer)
    if dict(start["headers"])[b"content-type"] == b"application/json":
        json.loads(answer["body"])


def grpc() -> Target:
    """Messages for every method; the first byte of an input chooses it."""
    _, model = served()
    loop = asyncio.new_event_loop()
    loop.run_until_complete(model.load())
    listed = [
        *open_inference.methods(model),
        *tensorflow_serving.predictions(model),
        *tensorflow_serving.states(model),
    ]
    by_name = {method.name: method for method in listed}
    methods = [by_name[name] for name in METHODS]

    def ask(data: bytes) -> None:
        if not data:
            return
        method = methods[data[0] % len(methods)]
        with contextlib.suppress(HttpError, NoMessage):
            request = method.request.FromString(data[1:])
            answer = loop.run_until_complete(method.handler(request, Caller()))
            answer.SerializeToString()

    return ask


def picture() -> Target:
    """Picture files."""
    target = Picture(height=6, width=8)

    def decode(data: bytes) -> None:
        with contextlib.suppress(DecodeError):
            pixels = decode_picture(data, target, max_pixels=10**6)
            assert pixels.shape == (6, 8, 3)

    return decode


TARGETS: dict[str, Callable[[], Target]] = {"http": http, "grpc": grpc, "picture": picture}


def main() -> None:
    """Never returns."""
    name = sys.argv.pop(1)
    atheris.Setup(sys.argv, TARGETS[name]())
    atheris.Fuzz()


if __name__ == "__main__":
    main()
