"""What a decoder needs of a picture file, without the rest that a hostile one may hold.

Pillow reads the small parts of a file one by one, in Python: a few megabytes of empty comments, repeated colour
profiles or fill bytes keep it busy for half a minute, and a hundred progressive scans make the C decoder
paint one picture a hundred times. So the parts are counted, and those that change no pixel are left out.
EXIF is read here too, since of all it holds only the orientation is wanted.
"""

import re

MAX_PARTS = 20_000
"""Segments, chunks or blocks of a file. A PNG of 16 MiB in pieces of 1 KiB has as many."""
MAX_SCANS = 32
"""Of a progressive JPEG; usual are 3 to 20. Each costs as much as a whole decode."""
MAX_EXIF_TAGS = 1000
MAX_FILL_BYTES = 64 * 1024
"""Bytes 0xFF that may stand before a marker of a JPEG."""

_ORIENTATION_TAG = 0x0112
_INTEGERS = {1: 1, 3: 2, 4: 4}
"""EXIF types that hold an orientation, and their bytes: BYTE, SHORT, LONG."""

_APP0, _APP1, _APP14, _APP15, _COM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE
_EOI, _SOS = 0xD9, 0xDA
_NO_FILL = re.compile(rb"[^\xff]")
_SCAN_END = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")
"""In the data of a scan 0xFF is followed by 0 or is a restart marker, until the next real marker."""

_PNG_PARTS = frozenset((b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"))


class BadFile(ValueError):
    """The file can't be read, or costs too much; the text is a sentence."""


def essential(data: bytes) -> tuple[bytes, int | None]:
    """The file without what changes no pixel, and its EXIF orientation (1 to 8), where that was read on the way.

    Raises:
        BadFile: damaged, or made to keep a decoder busy.
    """
    if data.startswith(b"\xff\xd8"):
        return _jpeg(data)
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png(data)
    if data.startswith((b"GIF87a", b"GIF89a")):
        _check_gif(data)
    elif (
        data.startswith(b"BM") and data[14:18] != b"\x0c\0\0\0" and data[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
    ):
        raise BadFile("run-length encoded BMP is not accepted: save it without compression")
    elif data.startswith(b"RIFF"):
        _check_riff(data)
    return data, None


def exif_orientation(exif: bytes) -> int:
    """EXIF orientation, 1 to 8; 1 where there is none, or the EXIF is damaged: the pixels may be good.

    The format is TIFF's, revision 6.0: byte order, 42, offset of the first directory, entries of 12 bytes.
    """
    while exif.startswith(b"Exif\0\0"):
        exif = exif[6:]
    order = {b"II*\0": "little", b"MM\0*": "big"}.get(exif[:4])
    if order is None:
        return 1

    def number(start: int, size: int) -> int:
        return int.from_bytes(exif[start : start + size], order)  # type: ignore[arg-type]

    start = number(4, 4)
    for entry in range(start + 2, start + 2 + 12 * min(number(start, 2), MAX_EXIF_TAGS), 12):
        if number(entry, 2) == _ORIENTATION_TAG:
            value = number(entry + 8, _INTEGERS.get(number(entry + 2, 2), 0))
            return value if 1 <= value <= 8 else 1
    return 1


def _jpeg(data: bytes) -> tuple[bytes, int]:
    kept = [b"\xff\xd8"]
    turned: int | None = None
    position = 2
    for _ in range(MAX_PARTS):
        start = data.find(b"\xff", position)
        found = _NO_FILL.search(data, start, start + MAX_FILL_BYTES) if start >= 0 else None
        if found is None:
            raise BadFile("the picture is damaged or truncated: it holds no image data")
        marker, position = data[found.start()], found.end()
        if marker == _SOS:
            _check_scans(data, position - 2)
            kept += [b"\xff", data[position - 1 :]]
            return b"".join(kept), turned or 1
        if marker == 0 or 0xD0 <= marker <= _EOI:
            continue
        end = position + max(2, int.from_bytes(data[position : position + 2], "big"))
        if marker == _APP1 and turned is None and data.startswith(b"Exif\0\0", position + 2):
            turned = exif_orientation(data[position + 2 : end])
        if not (_APP0 < marker < _APP14 or marker in (_APP15, _COM)):
            kept += [b"\xff", data[position - 1 : end]]
        position = end
    raise _too_many()


def _check_scans(data: bytes, position: int) -> None:
    """Looks closely only where the bytes of the marker are often met: also thumbnails and videos hold them."""
    if data.count(b"\xff\xda", position) <= MAX_SCANS:
        return
    scans = 0
    for _ in range(MAX_PARTS):
        found = _SCAN_END.search(data, position)
        if found is None or data[found.end() - 1] == _EOI:
            return
        scans += data[found.end() - 1] == _SOS
        if scans > MAX_SCANS:
            raise BadFile(f"the picture has more than {MAX_SCANS} progressive scans")
        position = found.end() + max(2, int.from_bytes(data[found.end() : found.end() + 2], "big"))
    raise _too_many()


def _png(data: bytes) -> tuple[bytes, int]:
    kept = [data[:8]]
    turned = 1
    position = 8
    for _ in range(MAX_PARTS):
        kind = data[position + 4 : position + 8]
        if len(kind) < 4:
            return b"".join(kept), turned  # truncated, as the decoder will say
        end = position + 12 + int.from_bytes(data[position : position + 4], "big")
        if kind in _PNG_PARTS:
            kept.append(data[position:end])
        elif kind == b"eXIf":
            turned = exif_orientation(data[position + 8 : end - 4])
        if kind == b"IEND":
            return b"".join(kept), turned
        position = end
    raise _too_many()


def _check_gif(data: bytes) -> None:
    """Counts the blocks before the first frame, with Pillow's own idea of where they end."""
    position = 13
    if data[10:11] and data[10] & 0x80:
        position += 3 << ((data[10] & 7) + 1)
    parts = 0

    def block() -> int:
        nonlocal position, parts
        parts += 1
        if parts > MAX_PARTS:
            raise _too_many()
        size = data[position]
        position += 1 + size
        return size

    try:
        while data[position] not in b";,":
            parts += 1
            position += 1
            if parts > MAX_PARTS:
                raise _too_many()
            if data[position - 1] != ord("!"):
                continue
            label = data[position]
            position += 1
            name = data[position + 1 : position + 12]
            size = block()
            if label == 254:
                while size:
                    size = block()
                continue
            if label == 255 and name == b"NETSCAPE2.0"[: len(name)] and size >= 11:
                block()
            while block():
                continue
    except IndexError:
        raise BadFile("the picture is damaged or truncated: it holds no frame") from None


def _check_riff(data: bytes) -> None:
    position = 12
    for _ in range(MAX_PARTS):
        size = int.from_bytes(data[position + 4 : position + 8], "little")
        position += 8 + size + (size & 1)
        if position >= len(data):
            return
    raise _too_many()


def _too_many() -> BadFile:
    return BadFile(f"the picture file has more than {MAX_PARTS} parts")
