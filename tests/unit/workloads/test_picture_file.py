"""Pictures that are made to keep a decoder busy: refused, or read without the harm."""

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lepton_workloads.contract.data import Picture
from lepton_workloads.decode import DecodeError, PixelBudget, decode_picture
from lepton_workloads.picture_file import MAX_SCANS, exif_orientation

TARGET = Picture(height=24, width=32, channels=3, fit="stretch")
NOISE = Image.fromarray(np.random.default_rng(3).integers(0, 256, (48, 64, 3), dtype=np.uint8))
MANY = 30_000


def encoded(form: str, image: Image.Image = NOISE, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


JPEG, PNG, GIF, WEBP = encoded("JPEG"), encoded("PNG"), encoded("GIF"), encoded("WEBP", lossless=True)
GIF_HEAD = 13 + (3 << ((GIF[10] & 7) + 1))


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def in_jpeg(part: bytes) -> bytes:
    return JPEG[:2] + part + JPEG[2:]


def in_png(part: bytes) -> bytes:
    return PNG[:33] + part + PNG[33:]


def in_gif(part: bytes) -> bytes:
    return GIF[:GIF_HEAD] + part + GIF[GIF_HEAD:]


def repeated_scan(times: int) -> bytes:
    data = encoded("JPEG", progressive=True)
    last = data.rindex(b"\xff\xda")
    return data[:-2] + data[last:-2] * times + b"\xff\xd9"


PACKED = zlib.compress(bytes(900 * 1024), 9)
EXIF_OF_MANY = (
    b"II*\0\x08\0\0\0" + struct.pack("<H", 65535) + struct.pack("<HHII", 1, 1, 9_000_000, 8) * 65535
)


@pytest.mark.parametrize(
    "data",
    [
        in_jpeg(b"\xff\xfe\x00\x04ab" * MANY),
        in_jpeg(b"\xff\xe1\x00\x02" * MANY),
        in_jpeg(b"\xff\x00" * MANY),
        in_jpeg(b"\xff" * 2_000_000),
        repeated_scan(MAX_SCANS),
        repeated_scan(500),
        in_png(chunk(b"tEXt", b"a\0b") * MANY),
        in_png(chunk(b"iCCP", b"a\0\0" + PACKED) * MANY),
        in_png(chunk(b"IDAT", b"") * MANY),
        in_gif(b"!\xfe\x01a\0" * MANY),
        in_gif(b"!\xfe" + b"\x01a" * MANY + b"\0"),
        in_gif(b"!\xff\x0bNETSCAPE2.0\0" + b"\x01a" * MANY + b"\0"),
        in_gif(b"\x01" * MANY),
        WEBP + b"abcd\0\0\0\0" * MANY,
    ],
    ids=range(14),
)
def test_what_has_too_many_parts_is_refused(data: bytes) -> None:
    with pytest.raises(DecodeError, match=r"parts|scans|no image data"):
        decode_picture(data, TARGET)


@pytest.mark.parametrize(
    ("data", "plain"),
    [
        (in_jpeg(b"\xff\xfe\x00\x04ab" * 100), JPEG),
        (in_jpeg(b"\xff\xe2\xff\xffMPF\0" + b"II*\0\x08\0\0\0\xff\xff" + bytes(65519)), JPEG),
        (in_jpeg(b"\xff\xe1\xff\xffExif\0\0" + EXIF_OF_MANY[:65527]), JPEG),
        (JPEG + b"\xff\xda" * 1000, JPEG),  # a video behind a phone's picture may hold anything
        (in_png(chunk(b"zTXt", b"a\0\0" + PACKED) * 1000), PNG),
        (in_png(chunk(b"iTXt", b"a\0\1\0\0\0" + PACKED) * 1000), PNG),
        (in_png(chunk(b"iCCP", b"a\0\0" + PACKED) * 1000), PNG),
        (in_png(chunk(b"eXIf", EXIF_OF_MANY)), PNG),
        (encoded("WEBP", lossless=True, exif=b"Exif\0\0" + EXIF_OF_MANY), WEBP),
        (in_gif(b"!\xfe\x01a\0" * 100), GIF),
        (in_gif(b"!\xff\x0bNETSCAPE2.0\x03\x01\0\0\0"), GIF),
    ],
    ids=range(11),
)
def test_what_changes_no_pixel_costs_nothing(data: bytes, plain: bytes) -> None:
    expected = decode_picture(plain, TARGET)
    tracemalloc.start()
    pixels = decode_picture(data, TARGET)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (pixels == expected).all()
    assert peak < 4 * len(data) + 4_000_000


def test_a_run_length_encoded_bmp_is_refused() -> None:
    head = struct.pack("<IiiHHIIiiII", 40, 4000, 4000, 1, 8, 1, 0, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + bytes(1024) + b"\x02\x05" * 1000
    with pytest.raises(DecodeError, match="without compression"):
        decode_picture(data, TARGET)


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP"])
def test_of_a_long_animation_the_first_frame_is_read(form: str) -> None:
    frames = [Image.new("RGB", (64, 48), (200, 10 * index, 0)) for index in range(20)]
    data = encoded(form, frames[0], save_all=True, append_images=frames[1:], lossless=True)
    assert decode_picture(data, TARGET)[12, 16].tolist() == [200, 0, 0]


def test_the_pixels_of_a_request_are_bounded() -> None:
    budget = PixelBudget(2 * 64 * 48)
    for _ in range(2):
        decode_picture(PNG, TARGET, budget=budget)
    with pytest.raises(DecodeError, match="more than the 6144 pixels"):
        decode_picture(PNG, TARGET, budget=budget)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize(("kind", "code"), [(1, "B3x"), (3, "H2x"), (4, "I")])
def test_orientation_is_read_in_every_integer_type(order: str, kind: int, code: str) -> None:
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "IH", 8, 2)
    other = struct.pack(order + "HHII", 0x010F, 2, 4, 0)
    for value, expected in ((6, 6), (8, 8), (0, 1), (9, 1)):
        exif = head + other + struct.pack(order + "HHI" + code, 0x0112, kind, 1, value)
        assert exif_orientation(b"Exif\0\0" + exif) == expected


@pytest.mark.parametrize(
    "exif", [b"", b"II*\0", b"II*\0\xff\xff\xff\xff", b"MM\0*\0\0\0\x08\xff\xff", b"x" * 50]
)
def test_damaged_exif_counts_as_none(exif: bytes) -> None:
    assert exif_orientation(exif) == 1
