"""Picture files in a request: the body itself, or the files of a form (multipart/form-data, RFC 7578)."""

from dataclasses import dataclass
from typing import Any

from lepton_workloads.serve.bodies.tensors import LARGE_BODY_BYTES
from lepton_workloads.serve.http import HttpError, Request
from lepton_workloads.serve.model import Model

MAX_FILES = 32
"""In one form."""
MAX_FIELDS = 8
"""Beside the files of a form."""
MAX_FIELD_BYTES = 256
MAX_PART_HEADER = 1024

FORM = "multipart/form-data"
_OTHER_TYPES = ("application/json", "multipart/", "text/", "audio/", "video/")
"""Bodies that are certainly no picture. `curl --data-binary` calls its body a form: that is let through."""
HOW = "send the picture file as the body: curl --data-binary @picture.jpg, or as a form: curl -F file=@picture.jpg"


@dataclass(frozen=True, slots=True)
class Upload:
    """A picture file."""

    name: str
    """Of the file, as the client says; empty for a whole body."""
    data: bytes

    def __str__(self) -> str:
        """How errors call it."""
        return f"the file {self.name[:100]!r}" if self.name else "the body"


@dataclass(frozen=True, slots=True)
class Uploads:
    """The files of a request, and the other fields of its form."""

    files: list[Upload]
    fields: dict[str, str]


async def read_uploads(model: Model, request: Request) -> Uploads:
    """The picture files of a request; they are looked at, but not decoded.

    Raises:
        HttpError: 415 for what is no picture, 400 for a broken form, 413 for one of too many files.
    """
    if request.media_type == FORM:
        content_type = request.header(b"content-type")
        if len(request.body) > LARGE_BODY_BYTES:
            uploads = await model.in_pool(read_form, request.body, content_type)
        else:
            uploads = read_form(request.body, content_type)
    else:
        if request.media_type.startswith(_OTHER_TYPES):
            raise HttpError(415, f"Content-Type {request.media_type[:100]} is not accepted; {HOW}")
        uploads = Uploads([Upload("", request.body)], {})
    for upload in uploads.files:
        if not upload.data:
            raise HttpError(400, f"{upload} is empty; {HOW}")
        if not _starts_like_picture(upload.data):
            raise HttpError(415, f"{upload} is not a JPEG, PNG, WebP, BMP or GIF picture; {HOW}")
    return uploads


def read_form(body: bytes, content_type: str) -> Uploads:
    """The files and fields of a form; a part is a field when it has no file's name, no type and is no picture.

    Raises:
        HttpError: 400 for a broken form, 413 for one of too many files.
    """
    from multipart import (  # takes milliseconds, and most requests are none
        MultipartError,
        MultipartSegment,
        ParserLimitReached,
        PushMultipartParser,
        parse_options_header,
    )

    boundary = parse_options_header(content_type)[1].get("boundary", "")
    if not (0 < len(boundary) <= 70 and boundary.isascii()):
        raise HttpError(400, f"Content-Type {FORM} must name its boundary, of 1 to 70 characters; {HOW}")
    files: list[Upload] = []
    fields: dict[str, str] = {}
    try:
        with PushMultipartParser(
            boundary,
            max_header_size=MAX_PART_HEADER,
            max_segment_count=MAX_FILES + MAX_FIELDS,
            strict=True,
        ) as parser:
            part: Any = None
            chunks: list[bytes] = []
            for event in parser.parse(body):
                if isinstance(event, MultipartSegment):
                    part, chunks = event, []
                elif event:
                    chunks.append(event)
                else:
                    _take(part, b"".join(chunks), files, fields)
    except ParserLimitReached as error:
        message = f"the form has too many parts or too long headers ({error}): {_bounds()}"
        raise HttpError(413, message) from None
    except (MultipartError, UnicodeDecodeError) as error:
        raise HttpError(400, f"the form is broken or cut: {error}; {HOW}") from None
    if not files:
        raise HttpError(400, f"the form holds no file; {HOW}")
    return Uploads(files, fields)


def _take(part: Any, data: bytes, files: list[Upload], fields: dict[str, str]) -> None:
    name, filename, content_type = part.name or "", part.filename, part.content_type
    if filename is None and content_type in (None, "text/plain") and not _starts_like_picture(data):
        if len(data) > MAX_FIELD_BYTES:
            raise HttpError(
                400, f"the form's field {name[:100]!r} is no file, and longer than {MAX_FIELD_BYTES} bytes"
            )
        fields[name] = data.decode("utf-8", "replace")
    else:
        files.append(Upload(filename or name or "file", data))
    if len(files) > MAX_FILES or len(fields) > MAX_FIELDS:
        raise HttpError(413, f"the form has too many parts: {_bounds()}")


def _bounds() -> str:
    return f"at most {MAX_FILES} files and {MAX_FIELDS} other fields are accepted"


def _starts_like_picture(data: bytes) -> bool:
    """By the first bytes of the formats; what is damaged behind them is 400 and not 415."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")):
        return True
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
