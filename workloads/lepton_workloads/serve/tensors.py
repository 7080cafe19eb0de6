"""Numbers out of JSON: strict, with errors that name the field and the shape that is expected."""

from typing import Any

import numpy as np

from lepton_workloads.serve.engine import Floats
from lepton_workloads.serve.http import HttpError

MAX_TENSOR_BYTES = 32 * 1024**2
"""Of all inputs of one request, as float32: a small body can name many small pictures."""


def max_inputs(shape: tuple[int, ...]) -> int:
    """How many inputs of this shape one request may hold."""
    return max(1, MAX_TENSOR_BYTES // (4 * int(np.prod(shape))))


def check_count(count: int, shape: tuple[int, ...], field: str) -> None:
    """Raises HttpError 400 when there are no inputs, or too many."""
    if count == 0:
        raise HttpError(400, f"{field} is empty: at least one input is needed")
    if count > max_inputs(shape):
        raise HttpError(400, f"{field} holds {count} inputs, at most {max_inputs(shape)} are accepted")


def read_tensor(values: list[Any], shape: tuple[int, ...], field: str, only_numbers: bool) -> Floats:
    """Nested lists of numbers as float32 (N, *shape).

    `only_numbers` says that the JSON text holds nothing else there. If that is not known each value is looked
    at first, since numpy takes booleans, null and even texts for numbers.

    Raises:
        HttpError: 400 for another shape, ragged lists, other values than numbers, too large for float32.
    """
    check_count(len(values), shape, field)
    expected = f"each of {field} must be numbers of shape {list(shape)}"
    if not only_numbers and not _holds_only_numbers(values, len(shape) + 2):
        raise HttpError(400, f"{field} holds something that is not a number; {expected}")
    try:
        with np.errstate(over="ignore"):
            tensor: Floats = np.array(values, dtype=np.float32)
    except (ValueError, TypeError, OverflowError):
        raise HttpError(400, f"{_first_wrong(values, shape, field)}; {expected}") from None
    if tensor.shape[1:] != shape:
        raise HttpError(400, f"{field} has inputs of shape {list(tensor.shape[1:])}; {expected}")
    if not np.isfinite(tensor).all():
        raise HttpError(400, f"{field} holds a number that is too large for float32; {expected}")
    return tensor


def holds_only_numbers(body: bytes, document: dict[str, Any]) -> bool:
    """Whether the JSON text of an object holds no string, boolean or null below its top level.

    Costs microseconds where a look at each value costs as much as parsing: all quotes are those of the
    object's own keys and strings, and the words true, false and null don't occur.
    """
    strings = len(document) + sum(isinstance(value, str) for value in document.values())
    return body.count(b'"') == 2 * strings and not any(word in body for word in (b"true", b"false", b"null"))


def _first_wrong(values: list[Any], shape: tuple[int, ...], field: str) -> str:
    """Names the first input that has not the shape."""
    for index, value in enumerate(values):
        try:
            found = list(np.shape(value))
        except (ValueError, TypeError, OverflowError):
            return f"{field}[{index}] is ragged: its lists differ in length"
        if found != list(shape):
            return f"{field}[{index}] has shape {found}"
    return f"{field} is ragged"


def _holds_only_numbers(value: Any, depth: int) -> bool:
    if isinstance(value, list):
        return depth > 0 and all(_holds_only_numbers(item, depth - 1) for item in value)
    return isinstance(value, int | float) and not isinstance(value, bool)
