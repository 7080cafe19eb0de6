"""Numbers out of JSON: strict, with errors that name the field and the shape that is expected.

Nested lists are flattened level by level and packed by `struct`, which takes a fifth of the time of numpy's own
conversion of lists and refuses everything but numbers; only booleans, which Python counts among them, are looked
for apart.
"""

import math
import struct
from itertools import chain
from typing import Any

import numpy as np
import orjson

from lepton_workloads.serve.bodies.tensors import check_count, max_inputs
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError

SMALL_TEXT_BYTES = 64 * 1024
"""What a smaller text may turn into is not worth a look."""


def load_object(
    text: bytes | memoryview, shape: tuple[int, ...], wanted: str, hint: str = ""
) -> dict[str, Any]:
    """The JSON object of a request for inputs of this shape.

    `[],[],...` of 16 MiB would be 400 MB of Python's lists: so brackets and quotes are counted before.

    Args:
        wanted: what the object must hold, for errors.
        hint: what else may be wrong when the text is no JSON.

    Raises:
        HttpError: 400.
    """
    if len(text) > SMALL_TEXT_BYTES:
        _check_size(bytes(text), shape)
    try:
        document = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise HttpError(400, f"the body is not JSON: {error}{hint}") from None
    if not isinstance(document, dict):
        raise HttpError(400, f"the body must be a JSON object with {wanted}")
    return document


def _check_size(text: bytes, shape: tuple[int, ...]) -> None:
    """Refuses more lists, objects and texts than the inputs that are accepted can have.

    An innermost list of n numbers takes at least 2 n + 1 characters, and is most of the lists there are.
    """
    inputs = max_inputs(shape)
    lists_of_one = sum(math.prod(shape[:depth]) for depth in range(len(shape)))
    innermost = shape[-1] if shape else 1
    limits = {
        b"[": ("lists", min(inputs * lists_of_one, 2 * len(text) // (2 * innermost + 1))),
        b"{": ("objects", 2 * inputs),
        b'"': ("texts", 8 * inputs),
    }
    for character, (name, most) in limits.items():
        if text.count(character) > most + 1000:
            raise HttpError(
                400,
                f"the body is not JSON that can be used: it holds more {name} than inputs of shape {list(shape)} have",
            )


def read_tensor(values: list[Any], shape: tuple[int, ...], field: str, no_booleans: bool) -> Floats:
    """Nested lists of numbers as float32 (N, *shape).

    `no_booleans` says that the JSON text holds none there. If that is not known each value is looked at.

    Raises:
        HttpError: 400 for another shape, ragged lists, other values than numbers, too large for float32.
    """
    check_count(len(values), shape, field)
    expected = f"each of {field} must be numbers of shape {list(shape)}"
    flat = flatten(values, shape)
    if flat is None:
        raise HttpError(400, f"{_first_wrong(values, shape, field)}; {expected}")
    packed = pack(flat, field, expected, no_booleans)
    return np.frombuffer(packed, np.float32).reshape(len(values), *shape)


def flatten(values: list[Any], shape: tuple[int, ...]) -> list[Any] | None:
    """What lies in lists of this shape below `values`; None when they have another shape.

    Objects and texts of the right length count as lists: what they give are texts, which are no numbers.
    """
    level = values
    try:
        for size in shape:
            if set(map(len, level)) != {size}:
                return None
            level = list(chain.from_iterable(level))
    except TypeError:  # a number where a list should be
        return None
    return level


def pack(flat: list[Any], field: str, expected: str, no_booleans: bool) -> bytes:
    """Numbers as bytes of float32.

    Raises:
        HttpError: 400 for other values than numbers, and for those too large for float32.
    """
    if no_booleans or bool not in set(map(type, flat)):
        try:
            return struct.pack(f"<{len(flat)}f", *flat)
        except OverflowError:
            raise HttpError(
                400, f"{field} holds a number that is too large for float32; {expected}"
            ) from None
        except struct.error:
            pass  # told below, as booleans are
    raise HttpError(400, f"{field} holds something that is not a number; {expected}")


def holds_no_booleans(text: bytes, rest: object) -> bool:
    """Whether a JSON text holds true or false in no other place than `rest`, which is all of it but the numbers.

    Costs microseconds where a look at each value costs as much as parsing: without escapes the letters of the text
    are those of the rest, and true has a u, false an s. It may say no where there are none, never yes where some are.
    """
    if b"\\" in text:
        return False
    known = orjson.dumps(rest)
    return _as_often(b"u", text, known) and _as_often(b"s", text, known)


def _as_often(letter: bytes, text: bytes, known: bytes) -> bool:
    """Whether a letter of `known` occurs no more often in the text, which holds all of them; `find` is memchr."""
    position = -1
    for _ in range(known.count(letter)):
        position = text.find(letter, position + 1)
    return text.find(letter, position + 1) < 0


def _first_wrong(values: list[Any], shape: tuple[int, ...], field: str) -> str:
    """Names the first input that has not the shape."""
    for index, value in enumerate(values):
        if flatten([value], shape) is not None:
            continue
        try:
            found = list(np.shape(value))
        except (ValueError, TypeError, OverflowError):
            return f"{field}[{index}] is ragged: its lists differ in length"
        if found == list(shape):
            return f"{field}[{index}] holds something that is not a number"
        if len(found) == len(shape):
            return f"{field} has inputs of shape {found}, the first is {field}[{index}]"
        return f"{field}[{index}] has shape {found}"
    return f"{field} is ragged"
