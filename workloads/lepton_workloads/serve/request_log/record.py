"""What is kept of an answer: one file and one line for each of its inputs. Pure, but for the encoding of PNG."""

import hashlib
import io
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import PurePosixPath

import numpy as np
import numpy.typing as npt
import orjson
from PIL import Image

from lepton_workloads.contract.data import Normalization
from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.traces import trace_id

TOP = 5
"""Classes of an answer that a line holds."""
MAX_NAME_BYTES = 200
PICTURES, NUMBERS = "pictures", "numbers"
_STARTS = ((b"\xff\xd8\xff", "jpg"), (b"\x89PNG", "png"), (b"GIF8", "gif"), (b"BM", "bmp"), (b"RIFF", "webp"))
"""How files of the formats begin that are decoded at all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it waits to be written."""

    time: float
    """Seconds since 1970."""
    caller: Caller
    probabilities: Floats
    """(N, labels)"""
    pictures: list[bytes]
    """The N files that were sent, or none when numbers were."""
    inputs: Floats | None
    """The numbers (N, height, width, channels), normalised; None when pictures were sent."""
    size: int
    """Bytes that it holds in memory."""


@dataclass(frozen=True, slots=True)
class File:
    """A file to write, and its suffix."""

    data: bytes
    suffix: str
    folder: str
    """PICTURES, or NUMBERS for what is no picture."""


def file_of(answer: Answer, index: int, normalization: Normalization) -> File:
    """The file of input `index`: the picture as it was sent, pixels as PNG, other numbers as float32 npy."""
    if answer.inputs is None:
        data = answer.pictures[index]
        suffix = next((suffix for start, suffix in _STARTS if data.startswith(start)), "bin")
        return File(data, suffix, PICTURES)
    one = answer.inputs[index]
    buffer = io.BytesIO()
    pixels = as_pixels(one, normalization)
    if pixels is None:
        np.save(buffer, one, allow_pickle=False)
        return File(buffer.getvalue(), "npy", NUMBERS)
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(buffer, "PNG", compress_level=1)
    return File(buffer.getvalue(), "png", PICTURES)


def as_pixels(one: Floats, normalization: Normalization) -> npt.NDArray[np.uint8] | None:
    """The uint8 pixels (height, width, channels) that normalise to these numbers; None when there are none."""
    if one.ndim != 3 or one.shape[-1] not in (1, 3):
        return None
    with np.errstate(all="ignore"):
        values = (one.astype(np.float64) - normalization.offset) / normalization.scale
        pixels = np.clip(np.rint(values), 0, 255)
        exact = np.all(np.abs(values - pixels) < 0.01)  # false with NaN
    return pixels.astype(np.uint8) if exact else None


def line_of(
    answer: Answer, index: int, labels: list[str], model: dict[str, str], file: PurePosixPath, sent: str
) -> bytes:
    """The JSON line of input `index`, with its line break; `file` is relative to the line's own file."""
    probabilities = answer.probabilities[index]
    best = np.argsort(-probabilities, kind="stable")[:TOP].tolist()
    top = [
        {"label": labels[number], "probability": round(float(probabilities[number]), 6)} for number in best
    ]
    caller = answer.caller
    return orjson.dumps(
        {
            "time": moment(answer.time).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "file": str(file),
            **top[0],
            "top": top,
            "sent": sent,
            **model,
            "source": caller.source,
            "requestId": caller.request_id,
            "traceId": trace_id(caller.traceparent),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def best_class(answer: Answer, index: int) -> int:
    """Number of the most probable class, of equal ones the first, as in `line_of`."""
    return int(np.argmax(answer.probabilities[index]))


def folder_name(label: str) -> str:
    """A label as the name of a folder: itself, but for what can't be in a name or would hide it."""
    name = "".join(
        f"%{ord(char):02X}" if char in "/%\\" or not char.isprintable() else char for char in label
    )
    if name.startswith("."):
        name = "%2E" + name[1:]
    if len(name.encode()) > MAX_NAME_BYTES:
        short = name.encode()[: MAX_NAME_BYTES - 9].decode(errors="ignore")
        name = f"{short}~{hashlib.sha256(label.encode()).hexdigest()[:8]}"
    return name or "%"


def moment(seconds: float) -> datetime:
    """A time of day in UTC, as in the names of folders."""
    return datetime.fromtimestamp(seconds, UTC)
