"""How a peer reads a picture: as one writes it with Pillow; BENCH_DRAFT=1 lets the JPEG decoder shrink it first."""

import base64
import io
import os
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from engines import SHAPE

DRAFT = os.environ.get("BENCH_DRAFT") == "1"
SIZE = (SHAPE[1], SHAPE[0])


def read(data: bytes) -> Any:
    """float32 (32, 32, 3), 0 to 1; what has another form is padded with black."""
    image = Image.open(io.BytesIO(data))
    if DRAFT:
        scale = min(SIZE[0] / image.width, SIZE[1] / image.height)
        image.draft("RGB", (round(image.width * scale), round(image.height * scale)))
    padded = ImageOps.pad(image.convert("RGB"), SIZE, Image.Resampling.BILINEAR)
    return np.asarray(padded, np.float32) / np.float32(255)


def instance(value: Any) -> Any:
    """Of one of TensorFlow Serving's instances: a picture as base64, or numbers."""
    if isinstance(value, dict):
        return read(base64.b64decode(value["b64"]))
    return np.asarray(value, np.float32)
