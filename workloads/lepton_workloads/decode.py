"""The one way from the bytes of a picture file to pixels, for preparation and for serving.

Which decoder and which resize is chosen moves pixels, so both sides call `decode_picture` with the same
pinned Pillow, and its version (`DECODER`) is part of a dataset's key and of a model's signature.

The bytes come from outside: file size and pixels are bounded before anything large is allocated,
only `FORMATS` are tried, what would keep a decoder busy is refused or left out (`picture_file`), and
whatever a parser does with bad input ends in one `DecodeError`.
"""

import io
import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, JpegImagePlugin

from lepton_workloads.contract.data import Normalization, Picture
from lepton_workloads.picture_file import BadFile, essential, exif_orientation

DECODER = f"pillow {PIL.__version__}"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "GIF")
MAX_FILE_BYTES = 64 * 1024**2
MAX_PIXELS = 50_000_000
"""Pillow holds up to 4 bytes a pixel, and a conversion holds two copies."""

Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]

_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation -> what shows the picture upright; from 5 on, width and height change places."""


class DecodeError(ValueError):
    """The bytes are no picture that can be used; the text is a sentence for the person who sent them."""


class PixelBudget:
    """How many pixels all pictures of one request may have together."""

    def __init__(self, pixels: int) -> None:
        self._pixels = self._left = pixels

    def take(self, pixels: int) -> None:
        """Raises DecodeError when they are more than are left."""
        self._left -= pixels
        if self._left < 0:
            raise DecodeError(
                f"with it the pictures have more than the {self._pixels} pixels that are accepted"
            )


def decode_picture(
    data: bytes, picture: Picture, *, max_pixels: int = MAX_PIXELS, budget: PixelBudget | None = None
) -> Pixels:
    """Pixels of a picture file as uint8 (height, width, channels), upright, fitted to `picture`.

    Transparent parts become black; of a GIF or WebP animation the first frame is taken; 16-bit grey is
    scaled to 8 bits. A server may pass a lower `max_pixels` than preparation used: that refuses
    pictures, it changes none.

    Raises:
        DecodeError: unknown format, damaged or truncated, too many bytes, parts or pixels.
    """
    with _opened(data, max_pixels) as (image, orientation):
        if budget is not None:
            budget.take(image.width * image.height)
        return _upright(image, picture, orientation)


@dataclass(frozen=True, slots=True)
class Upright:
    """A picture to be shown."""

    image: Image.Image
    """RGB, upright, resized."""
    size: tuple[int, int]
    """Width and height of the whole picture, upright."""


def decode_upright(
    data: bytes, longest: int, *, enlarge: bool = False, max_pixels: int = MAX_PIXELS
) -> Upright:
    """A picture file in colour, with `longest` pixels on its longer side; a smaller one only if `enlarge`.

    Raises:
        DecodeError: as `decode_picture`.
    """
    with _opened(data, max_pixels) as (image, orientation):
        width, height = image.size
        scale = longest / max(width, height)
        if not enlarge:
            scale = min(scale, 1.0)
        frame = max(1, round(width * scale)), max(1, round(height * scale))
        if isinstance(image, JpegImagePlugin.JpegImageFile):
            image.draft("RGB", frame)
        image.load()
        shown = _convert(image, "RGB").resize(frame, Image.Resampling.BILINEAR)
        if orientation in _TRANSPOSE:
            shown = shown.transpose(_TRANSPOSE[orientation])
        return Upright(shown, _turned(width, height, orientation))


def upright_size(data: bytes, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """Width and height of a picture file, upright; its pixels are not decoded.

    Raises:
        DecodeError: as `decode_picture`.
    """
    with _opened(data, max_pixels) as (image, orientation):
        return _turned(*image.size, orientation)


def fit_pixels(pixels: Pixels, picture: Picture) -> Pixels:
    """Grey (H, W) or colour (H, W, 3) uint8 pixels that need no decoding, fitted as `decode_picture` does."""
    return _fit(Image.fromarray(pixels), picture, orientation=1)


def normalize(pixels: Pixels, normalization: Normalization) -> Floats:
    """The network's input for uint8 pixels of any shape: pixel * scale + offset, each step in float32."""
    return pixels.astype(np.float32) * np.float32(normalization.scale) + np.float32(normalization.offset)


@contextmanager
def _opened(data: bytes, max_pixels: int) -> Iterator[tuple[Image.Image, int]]:
    """The picture, not decoded yet, and its EXIF orientation.

    Whatever goes wrong with it in the `with` block is a DecodeError.
    """
    if not data:
        raise DecodeError("the file is empty")
    if len(data) > MAX_FILE_BYTES:
        raise DecodeError(f"the file has {len(data)} bytes, more than {MAX_FILE_BYTES} are not accepted")
    try:
        needed, orientation = essential(data)
        with Image.open(io.BytesIO(needed), formats=FORMATS) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise DecodeError(
                    f"the picture has {width} x {height} pixels, more than {max_pixels} are not accepted"
                )
            if orientation is None:
                orientation = exif_orientation(image.info.get("exif", b""))
            yield image, orientation
    except DecodeError:
        raise
    except BadFile as error:
        raise DecodeError(str(error)) from None
    except PIL.UnidentifiedImageError:
        raise DecodeError("the file is not a JPEG, PNG, WebP, BMP or GIF picture") from None
    except Image.DecompressionBombError:
        raise DecodeError(f"the picture has more pixels than the {max_pixels} that are accepted") from None
    except Exception as error:  # Pillow's parsers raise nearly anything on damaged bytes
        raise DecodeError(f"the picture is damaged or truncated: {_sentence(error)}") from error


def _upright(image: Image.Image, picture: Picture, orientation: int) -> Pixels:
    if isinstance(image, JpegImagePlugin.JpegImageFile):
        _draft(image, picture, orientation)
    image.load()
    return _fit(image, picture, orientation)


def _turned(width: int, height: int, orientation: int) -> tuple[int, int]:
    return (height, width) if orientation >= 5 else (width, height)


def _draft(image: JpegImagePlugin.JpegImageFile, picture: Picture, orientation: int) -> None:
    """Let libjpeg decode at 1/2, 1/4 or 1/8 of the size where the result is still not too small."""
    width, height = _frame(picture, orientation)
    scale = _scale(image.size, (width, height), picture)
    if picture.fit != "stretch":
        width, height = math.ceil(image.width * scale), math.ceil(image.height * scale)
    image.draft("L" if picture.channels == 1 else "RGB", (width, height))


def _frame(picture: Picture, orientation: int) -> tuple[int, int]:
    """Width and height of the target before the picture is turned upright."""
    return _turned(picture.width, picture.height, orientation)


def _scale(size: tuple[int, int], frame: tuple[int, int], picture: Picture) -> float:
    ratios = frame[0] / size[0], frame[1] / size[1]
    return max(ratios) if picture.fit == "crop" else min(ratios)


def _fit(image: Image.Image, picture: Picture, orientation: int) -> Pixels:
    """Resize first and turn the small result: the same pixels for less memory."""
    image = _convert(image, "L" if picture.channels == 1 else "RGB")
    frame = _frame(picture, orientation)
    scale = _scale(image.size, frame, picture)
    box = (0.0, 0.0, float(image.width), float(image.height))
    if picture.fit == "crop":
        half_width = min(frame[0] / scale, image.width) / 2
        half_height = min(frame[1] / scale, image.height) / 2
        x, y = image.width / 2, image.height / 2
        box = (x - half_width, y - half_height, x + half_width, y + half_height)
    elif picture.fit == "pad":
        frame = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    image = image.resize(frame, Image.Resampling.BILINEAR, box=box)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    if image.size != (picture.width, picture.height):
        padded = Image.new(image.mode, (picture.width, picture.height))
        padded.paste(image, ((picture.width - image.width) // 2, (picture.height - image.height) // 2))
        image = padded
    pixels = np.array(image, dtype=np.uint8)
    return pixels.reshape(picture.height, picture.width, picture.channels)


def _convert(image: Image.Image, mode: str) -> Image.Image:
    """8-bit grey or RGB, transparency composited on black."""
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips at 255
        deep = np.clip(np.asarray(image).astype(np.int64), 0, 65535)
        image = Image.fromarray(((deep * 255 + 32767) // 65535).astype(np.uint8))
    elif image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, (0, 0, 0, 255)), image)
    if image.mode == mode:
        return image
    if image.mode not in ("1", "L", "RGB"):
        image = image.convert("RGB")  # CMYK, palettes and the like have no direct way to grey
    return image.convert(mode)


def _sentence(error: Exception) -> str:
    text = " ".join(str(error).split())[:200]
    return text or type(error).__name__
