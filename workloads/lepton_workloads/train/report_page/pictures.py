"""Pixels as data URIs."""

import base64
import io

import numpy as np
import numpy.typing as npt
from PIL import Image

MAX_SIDE = 128
"""Larger pictures are made smaller for the page."""
WARM = ((0.0, (255, 214, 64)), (0.5, (255, 122, 24)), (1.0, (222, 18, 60)))
"""Colours of a map from weak to strong: position, red, green, blue."""
STRONGEST = 190
"""Opacity of the strongest place, of 255: the picture must show through."""


def picture_uri(pixels: npt.NDArray[np.uint8]) -> str:
    """A picture (H, W, 1 or 3) as PNG."""
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else np.ascontiguousarray(pixels))
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR)
    return _uri(image)


def map_uri(found: npt.NDArray[np.float32]) -> str:
    """A class activation map (H, W) as a transparent PNG to lay over the picture; its strongest place is full."""
    level = found / found.max() if found.max() > 0 else found
    positions = [position for position, _ in WARM]
    colours = [np.interp(level, positions, [colour[channel] for _, colour in WARM]) for channel in range(3)]
    layers = np.stack([*colours, level * STRONGEST], axis=-1)
    image = Image.fromarray(np.round(layers).astype(np.uint8))
    if max(image.size) > MAX_SIDE:
        image.thumbnail((MAX_SIDE, MAX_SIDE), Image.Resampling.BILINEAR)
    return _uri(image)


def _uri(image: Image.Image) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
