"""`POST /classify?top=K`: the body is a picture file, the answer its most probable classes."""

from urllib.parse import parse_qs

import numpy as np

from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.model import BadPicture, Model
from lepton_workloads.serve.router import Route

DEFAULT_TOP = 5
_OTHER_TYPES = ("application/json", "multipart/", "text/", "audio/", "video/")
"""Bodies that are certainly no picture. `curl --data-binary` calls its body a form: that is let through."""
_HOW = "send the picture file itself as the body: curl --data-binary @picture.jpg"


def routes(model: Model) -> list[Route]:
    """The route of picture uploads."""

    async def classify(request: Request) -> Response:
        if request.media_type.startswith(_OTHER_TYPES):
            raise HttpError(415, f"Content-Type {request.media_type} is not accepted; {_HOW}")
        count = min(_top(request), len(model.labels))
        if not request.body:
            raise HttpError(400, f"the body is empty; {_HOW}")
        if not _starts_like_picture(request.body):
            raise HttpError(415, f"the body is not a JPEG, PNG, WebP, BMP or GIF picture; {_HOW}")
        try:
            inputs = await model.decode([request.body])
        except BadPicture as error:
            raise HttpError(400, f"the body can't be used: {error.message}") from None
        probabilities = (await model.predict(inputs, request.caller, [request.body]))[0]
        best = np.argsort(-probabilities, kind="stable")[:count].tolist()
        return json_response(
            {
                "model": model.task.name,
                "version": model.task.version,
                "predictions": [
                    {"label": model.labels[index], "index": index, "probability": probabilities[index]}
                    for index in best
                ],
            }
        )

    summary = "body: a JPEG, PNG, WebP, BMP or GIF file; ?top=K classes (default 5)"
    return [Route("POST", "/classify", summary, classify, reads_body=True)]


def _top(request: Request) -> int:
    query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
    text = query.get("top", [str(DEFAULT_TOP)])[-1]
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise HttpError(400, f"top must be a whole number from 1, not {text[:40]!r}")
    return int(text)


def _starts_like_picture(data: bytes) -> bool:
    """By the first bytes of the formats; what is damaged behind them is 400 and not 415."""
    if data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"GIF87a", b"GIF89a")):
        return True
    return data[:4] == b"RIFF" and data[8:12] == b"WEBP"
