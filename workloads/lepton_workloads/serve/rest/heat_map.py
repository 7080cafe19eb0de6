"""A class activation map laid over its picture, as PNG; and where the network's frame lies on that picture.

The network sees the picture through its frame: with `pad` the frame is larger than the picture, with `crop` smaller,
with `stretch` it is the picture. The map covers the frame, so it is brought back to the picture by the same geometry.
"""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from lepton_workloads.contract.data import Picture
from lepton_workloads.decode import decode_upright
from lepton_workloads.serve.engines.engine import Floats, NotFinite

DEFAULT_LONGEST = 256
LONGEST = 1024
"""Pixels of the longer side of what is rendered."""
STRONGEST = 0.8
"""How much of the picture the colour covers at the map's maximum."""
UNSEEN = 0.45
"""Brightness of what the network does not see, since `crop` cuts it off."""


@dataclass(frozen=True, slots=True)
class Frame:
    """The network's frame in pixels of the upright picture; parts outside the picture are the black of `pad`."""

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True, slots=True)
class Normalized:
    """A map whose largest number is 1, or 0 where nothing speaks for the class."""

    values: Floats
    """(H, W), 0 to 1."""
    maximum: float
    """What the largest number was before."""


def frame_of(size: tuple[int, int], picture: Picture) -> Frame:
    """Where the network's frame lies on an upright picture of `size` (width, height); see `decode`."""
    width, height = size
    if picture.fit == "stretch":
        return Frame(0.0, 0.0, float(width), float(height))
    ratios = picture.width / width, picture.height / height
    if picture.fit == "crop":
        scale = max(ratios)
        half_width, half_height = picture.width / scale / 2, picture.height / scale / 2
        x, y = width / 2, height / 2
        return Frame(x - half_width, y - half_height, x + half_width, y + half_height)
    scale = min(ratios)
    inner = max(1, round(width * scale)), max(1, round(height * scale))
    across, down = width / inner[0], height / inner[1]  # pixels of the picture in one of the network's
    left = -across * ((picture.width - inner[0]) // 2)
    top = -down * ((picture.height - inner[1]) // 2)
    return Frame(left, top, left + across * picture.width, top + down * picture.height)


def normalized(heat: Floats) -> Normalized:
    """The map by its own maximum.

    Raises:
        NotFinite: the inputs were so large that the map can't be computed.
    """
    maximum = float(heat.max())
    if not np.isfinite(maximum):
        raise NotFinite("the map is not finite")
    return Normalized(heat / np.float32(maximum) if maximum > 0 else np.zeros_like(heat), maximum)


def render(data: bytes, heat: Floats, picture: Picture, longest: int | None, max_pixels: int) -> bytes:
    """PNG of the picture under its map (H, W), 0 to 1.

    Args:
        data: the picture file.
        longest: pixels of the longer side; None for its own, but 256 at most.

    Raises:
        DecodeError: the file can't be used.
    """
    upright = decode_upright(
        data, longest or DEFAULT_LONGEST, enlarge=longest is not None, max_pixels=max_pixels
    )
    image = upright.image
    rows, columns = heat.shape
    frame = frame_of(upright.size, picture)
    left, right, x0, x1 = _overlap(frame.left, frame.right, upright.size[0], image.width, columns)
    top, bottom, y0, y1 = _overlap(frame.top, frame.bottom, upright.size[1], image.height, rows)
    cells = Image.fromarray(np.rint(heat * 255).astype(np.uint8))
    box = (left, top, right, bottom)
    strength = Image.new("L", image.size)
    strength.paste(
        cells.resize((right - left, bottom - top), Image.Resampling.BICUBIC, (x0, y0, x1, y1)), box
    )
    if box != (0, 0, *image.size):
        seen = image.crop(box)
        image = image.point(_DARKER * 3)
        image.paste(seen, box)
    colors = Image.merge("RGB", [strength.point(channel) for channel in COLORS.T.tolist()])
    buffer = io.BytesIO()
    Image.composite(colors, image, strength.point(_OPACITY)).save(buffer, "PNG", compress_level=1)
    return buffer.getvalue()


def _overlap(start: float, end: float, size: int, shown: int, cells: int) -> tuple[int, int, float, float]:
    """Along one side: the pixels shown that the frame covers, and the part of the map that lies there, in cells."""
    low, high = max(start, 0.0), min(end, float(size))
    first = min(round(low / size * shown), shown - 1)
    last = max(round(high / size * shown), first + 1)
    unit = cells / (end - start)
    return first, last, max(0.0, (low - start) * unit), min(float(cells), (high - start) * unit)


def _colors() -> npt.NDArray[np.uint8]:
    """256 colours from dark violet over red and orange to light yellow, (256, 3) from 0 to 255.

    Even steps of lightness in OKLab (bottosson.github.io/posts/oklab), so that equal steps of the map look equal, also
    in grey and to people who don't tell red from green.
    """
    place = np.linspace(0, 1, 256)
    lightness = 0.28 + 0.68 * place
    hue = np.deg2rad(-40 + 145 * place)
    chroma = 0.12 + 0.06 * np.sin(np.pi * place)
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.stack(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ],
        axis=1,
    )
    to_linear = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    linear = np.clip(cones**3 @ to_linear.T, 0, 1)
    encoded = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    found: npt.NDArray[np.uint8] = np.rint(encoded * 255).astype(np.uint8)
    return found


COLORS = _colors()
_OPACITY = [round(value * STRONGEST) for value in range(256)]
_DARKER = [round(value * UNSEEN) for value in range(256)]
