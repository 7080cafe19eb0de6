"""The binary tensor data extension of the Open Inference Protocol: tensors as raw bytes behind the JSON.

The header says where the JSON ends. What follows are the tensors that have `binary_data_size`, in their order.
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from typing import Any

import orjson

from lepton_workloads.serve.http import HttpError, Response

HEADER = "Inference-Header-Content-Length"
_HEADER = HEADER.lower().encode()
MEDIA_TYPE = b"application/octet-stream"


def split(body: bytes, length: str) -> tuple[bytes | memoryview, memoryview]:
    """The JSON of a body and what is behind it; `length` is the header's value, empty when there is none.

    Raises:
        HttpError: 400.
    """
    if not length:
        return body, memoryview(b"")
    if not (length.isascii() and length.isdigit() and len(length) < 20):
        raise HttpError(400, f"{HEADER} must be the number of bytes of the JSON, not {length[:40]!r}")
    end = int(length)
    if end > len(body):
        raise HttpError(400, f"{HEADER} is {end}, but the body has only {len(body)} bytes")
    view = memoryview(body)
    return view[:end], view[end:]


def tensor_bytes(size: object, rest: memoryview, field: str) -> memoryview:
    """The bytes of the only tensor of a request.

    Raises:
        HttpError: 400 when its size is not that of what follows the JSON.
    """
    if type(size) is not int:
        raise HttpError(400, f"{field} must be a whole number of bytes, not {str(size)[:40]}")
    if size != len(rest):
        raise HttpError(
            400,
            f"{field} is {size}, but {len(rest)} bytes follow the JSON; the header {HEADER} says where it ends",
        )
    return rest


def response(document: dict[str, Any], data: bytes) -> Response:
    """An answer whose only output's data follow the JSON."""
    header = orjson.dumps(document)
    return Response(header + data, media_type=MEDIA_TYPE, headers=[(_HEADER, b"%d" % len(header))])
