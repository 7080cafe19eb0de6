"""One decoder: every accepted form gives upright uint8 pixels, everything else one sentence."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lepton_workloads.contract.data import Picture
from lepton_workloads.decode import MAX_FILE_BYTES, DecodeError, decode_picture, fit_pixels

COLOUR = Picture(height=24, width=32, channels=3, fit="stretch")
GREY = Picture(height=24, width=32, channels=1, fit="stretch")


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def halves(width: int = 64, height: int = 48) -> Image.Image:
    """Red on the left, blue on the right."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[:, : width // 2, 0] = 255
    pixels[:, width // 2 :, 2] = 255
    return Image.fromarray(pixels)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("picture", [COLOUR, GREY])
def test_accepted_formats_give_the_asked_shape_and_colours(form: str, picture: Picture) -> None:
    options = {"lossless": True} if form == "WEBP" else {}
    pixels = decode_picture(encoded(halves(), form, **options), picture)
    assert pixels.dtype == np.uint8
    assert pixels.shape == (24, 32, picture.channels)
    if picture.channels == 3:
        assert abs(pixels[12, 4].astype(int) - [255, 0, 0]).max() <= 3
        assert abs(pixels[12, 28].astype(int) - [0, 0, 255]).max() <= 3
    else:
        assert abs(int(pixels[12, 4, 0]) - 76) <= 3
        assert abs(int(pixels[12, 28, 0]) - 29) <= 3


@pytest.mark.parametrize("form", ["TIFF", "PPM", "ICO", "TGA"])
def test_other_formats_are_refused(form: str) -> None:
    with pytest.raises(DecodeError, match="not a JPEG, PNG, WebP, BMP or GIF"):
        decode_picture(encoded(halves(), form), COLOUR)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("fit", ["stretch", "pad", "crop"])
def test_exif_orientation_shows_the_picture_upright(orientation: int, fit: Any) -> None:
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:16, :24] = 255  # white top left corner, asymmetric in both directions
    turned = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.transpose(1, 0, 2),
        6: np.rot90(upright, 1),
        7: upright[::-1, ::-1].transpose(1, 0, 2),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(Image.fromarray(np.ascontiguousarray(turned)), "JPEG", quality=100, exif=exif.tobytes())
    picture = Picture(height=16, width=20, fit=fit)
    difference = decode_picture(data, picture).astype(int) - fit_pixels(upright, picture)
    assert abs(difference).mean() < 8  # edges move a little in a scaled decode; a wrong turn gives 60


def test_damaged_exif_does_not_refuse_a_good_picture() -> None:
    data = encoded(halves(), "JPEG", exif=b"Exif\0\0nonsense")
    assert decode_picture(data, COLOUR).shape == (24, 32, 3)


@pytest.mark.parametrize("form", ["PNG", "WEBP"])
def test_alpha_is_composited_on_black(form: str) -> None:
    image = Image.new("RGBA", (32, 24), (200, 100, 50, 0))
    image.paste((200, 100, 50, 255), (0, 0, 16, 24))
    pixels = decode_picture(encoded(image, form, lossless=True), COLOUR)
    assert pixels[12, 4].tolist() == [200, 100, 50]
    assert pixels[12, 28].tolist() == [0, 0, 0]


def test_palette_with_transparency_and_grey_with_alpha_end_on_black() -> None:
    palette = Image.new("P", (32, 24), 1)
    palette.putpalette([255, 255, 255, 0, 255, 0])
    palette.paste(0, (0, 0, 16, 24))
    pixels = decode_picture(encoded(palette, "PNG", transparency=0), COLOUR)
    assert pixels[12, 4].tolist() == [0, 0, 0]
    assert pixels[12, 28].tolist() == [0, 255, 0]
    grey = Image.new("LA", (32, 24), (200, 0))
    assert decode_picture(encoded(grey, "PNG"), GREY).max() == 0


def test_sixteen_bit_grey_is_scaled_not_clipped() -> None:
    ramp = np.linspace(0, 65535, 32 * 24).astype(np.uint16).reshape(24, 32)
    pixels = decode_picture(encoded(Image.fromarray(ramp), "PNG"), GREY)
    assert abs(pixels[:, :, 0].astype(float) - ramp / 257).max() <= 1


@pytest.mark.parametrize("picture", [COLOUR, GREY])
def test_cmyk_and_bilevel_pictures(picture: Picture) -> None:
    cmyk = decode_picture(encoded(halves().convert("CMYK"), "JPEG", quality=95), picture)
    assert cmyk.shape[2] == picture.channels
    if picture.channels == 3:
        assert cmyk[12, 4, 0] > 200
        assert cmyk[12, 4, 2] < 40
    bilevel = decode_picture(encoded(Image.new("1", (5, 5), 1), "PNG"), picture)
    assert bilevel.min() == 255


def test_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (32, 24), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert decode_picture(data, COLOUR)[12, 16].tolist() == [255, 0, 0]


def test_fit_pads_crops_or_stretches() -> None:
    wide = np.full((10, 40), 255, np.uint8)
    wide[:, :10] = 0
    padded = fit_pixels(wide, Picture(height=20, width=20, channels=1, fit="pad"))[:, :, 0]
    assert padded[:7].max() == 0
    assert padded[13:].max() == 0
    assert padded[10, 15] == 255
    cropped = fit_pixels(wide, Picture(height=20, width=20, channels=1, fit="crop"))
    assert cropped.min() == 255
    stretched = fit_pixels(wide, Picture(height=20, width=20, channels=1, fit="stretch"))[:, :, 0]
    assert stretched[:, :4].max() == 0
    assert stretched[:, 6:].min() == 255


def test_extreme_aspect_ratio_keeps_at_least_one_pixel() -> None:
    line = np.full((1, 5000, 3), 255, np.uint8)
    assert fit_pixels(line, Picture(fit="pad")).max() == 255
    assert fit_pixels(line, Picture(fit="crop")).min() == 255


def test_draft_stays_close_to_the_full_decode() -> None:
    y, x = np.mgrid[0:480, 0:640]
    photo = np.stack([x % 256, y % 256, (x + y) % 256], -1).astype(np.uint8)
    smooth = Image.fromarray(photo).resize((640, 480), Image.Resampling.BICUBIC)
    picture = Picture(height=32, width=32)
    from_jpeg = decode_picture(encoded(smooth, "JPEG", quality=95), picture).astype(int)
    from_png = decode_picture(encoded(smooth, "PNG"), picture)
    assert abs(from_jpeg - from_png).mean() < 2


@pytest.mark.parametrize("form", ["PNG", "BMP", "GIF", "WEBP"])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(form: str) -> None:
    bomb = encoded(Image.new("1", (9000, 8000)), form)
    with pytest.raises(DecodeError, match="more than 50000000 are not accepted"):
        decode_picture(bomb, COLOUR)


def test_a_server_may_accept_fewer_pixels() -> None:
    with pytest.raises(DecodeError, match="64 x 48 pixels, more than 100 "):
        decode_picture(encoded(halves(), "PNG"), COLOUR, max_pixels=100)


def test_too_many_bytes_are_refused() -> None:
    with pytest.raises(DecodeError, match="bytes, more than"):
        decode_picture(bytes(MAX_FILE_BYTES + 1), COLOUR)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "BMP", "GIF"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_truncated_pictures_are_errors(form: str, share: float) -> None:
    noise = Image.fromarray(np.random.default_rng(1).integers(0, 255, (64, 64, 3), np.uint8))
    data = encoded(noise, form)
    with pytest.raises(DecodeError):
        decode_picture(data[: int(len(data) * share)], COLOUR)


@pytest.mark.parametrize("data", [b"", b"no picture", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a"])
def test_nonsense_is_a_sentence(data: bytes) -> None:
    with pytest.raises(DecodeError) as caught:
        decode_picture(data, COLOUR)
    assert str(caught.value)


def test_damaged_bytes_never_raise_anything_else() -> None:
    random = np.random.default_rng(7)
    for form in ("JPEG", "PNG", "WEBP", "BMP", "GIF"):
        good = np.frombuffer(encoded(halves(), form), np.uint8)
        for _ in range(100):
            bad = good.copy()
            bad[random.integers(0, len(bad), 5)] = random.integers(0, 256, 5)
            with contextlib.suppress(DecodeError):
                assert decode_picture(bad.tobytes(), COLOUR).shape == (24, 32, 3)
