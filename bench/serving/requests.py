"""Requests as bytes, made once and sent again and again; and the probabilities in an answer.

`json`: TensorFlow Serving's predict, which KServe calls V1. `binary`: the Open Inference Protocol's binary tensor data
extension. `small`, `large`: a JPEG file. Who knows no such protocol gets the same content in the form that it has.
"""

import base64
import json
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from bench.serving.network import INPUT, NAME, OUTPUT, SHAPE, Network

KINDS = ("json", "binary", "small", "large")
HEADER_LENGTH = "inference-header-content-length"
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Asked:
    """A request without its head."""

    path: str
    body: bytes
    media_type: str
    headers: tuple[tuple[str, str], ...] = ()

    def whole(self, host: str) -> bytes:
        """The bytes that go over a connection that stays open."""
        lines = [
            f"POST {self.path} HTTP/1.1",
            f"host: {host}",
            f"content-type: {self.media_type}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + self.body


Builder = Callable[[Network, str], Asked]
"""Makes the request of a kind."""


def numbers(data: bytes) -> list[Any]:
    """A tensor's bytes as nested lists of SHAPE."""
    flat: list[Any] = list(struct.unpack(f"<{len(data) // 4}f", data))
    for size in reversed(SHAPE[1:]):
        flat = [flat[start : start + size] for start in range(0, len(flat), size)]
    return flat


def predict_v1(path: str = f"/v1/models/{NAME}:predict") -> Builder:
    """`{"instances": [...]}` with numbers; a picture is `{"b64": ...}`."""

    def build(network: Network, kind: str) -> Asked:
        if kind == "json":
            instances: list[Any] = numbers(network.tensor())
        else:
            instances = [{"b64": base64.b64encode(network.picture(kind)).decode()}]
        return Asked(path, json.dumps({"instances": instances}).encode(), "application/json")

    return build


def infer_v2(network: Network, _: str) -> Asked:
    """A tensor behind the JSON that describes it; the answer is wanted in the same form."""
    tensor = network.tensor()
    head = json.dumps(
        {
            "inputs": [
                {
                    "name": INPUT,
                    "shape": list(SHAPE),
                    "datatype": "FP32",
                    "parameters": {"binary_data_size": len(tensor)},
                }
            ],
            "outputs": [{"name": OUTPUT, "parameters": {"binary_data": True}}],
        }
    ).encode()
    return Asked(
        f"/v2/models/{NAME}/infer",
        head + tensor,
        OCTETS,
        (("Inference-Header-Content-Length", str(len(head))),),
    )


def raw(path: str) -> Builder:
    """The tensor's or the picture's own bytes."""

    def build(network: Network, kind: str) -> Asked:
        if kind == "binary":
            return Asked(path, network.tensor(), OCTETS)
        return Asked(path, network.picture(kind), "image/jpeg")

    return build


def read_answer(headers: Mapping[str, str], body: bytes) -> list[float]:
    """Probabilities by class, in any of the forms that the servers have.

    Args:
        headers: by their lower-case names.

    Raises:
        ValueError: there are none; the text shows the answer's begin.
    """
    try:
        if HEADER_LENGTH in headers:
            length = int(headers[HEADER_LENGTH])
            json.loads(body[:length])
            return _floats(body[length:])
        if headers.get("content-type", "").startswith(OCTETS):
            return _floats(body)
        return _from_json(json.loads(body))
    except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
        raise ValueError(f"the answer holds no probabilities ({error}): {body[:200]!r}") from error


def _floats(data: bytes) -> list[float]:
    return list(struct.unpack(f"<{len(data) // 4}f", data))


def _from_json(document: Any) -> list[float]:
    """`{"predictions": [[...]]}`, a v2 answer, or labels with probabilities in any order."""
    if isinstance(document, dict) and "outputs" in document:
        return [float(value) for value in document["outputs"][0]["data"]]
    found = document["predictions"] if isinstance(document, dict) else document
    if isinstance(found[0], dict):
        ordered = sorted(found, key=lambda one: int(one["index"]))
        return [float(one["probability"]) for one in ordered]
    row = found[0] if isinstance(found[0], list) else found
    return [float(value) for value in row]
