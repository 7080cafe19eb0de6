"""`POST /classify?top=K`: picture files, and the most probable classes of each.

The body is a picture file, or a form of such files; a form may hold `top` as a field. One file is answered by its
`predictions`, several by a list of `files`, each with its name and predictions.
"""

from typing import Any
from urllib.parse import parse_qs

import numpy as np

from lepton_workloads.serve.bodies.tensors import check_count
from lepton_workloads.serve.bodies.uploads import read_uploads
from lepton_workloads.serve.engines.engine import Floats
from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.model import BadPicture, Model
from lepton_workloads.serve.router import Route

DEFAULT_TOP = 5


def routes(model: Model) -> list[Route]:
    """The route of picture uploads."""

    async def classify(request: Request) -> Response:
        count = _top(request)
        uploads = await read_uploads(model, request)
        for name, text in uploads.fields.items():
            if name != "top":
                raise HttpError(
                    400, f"the form's field {name[:100]!r} is not known: beside files there is only top"
                )
            count = _whole(text)
        count = min(count, len(model.labels))
        files = [upload.data for upload in uploads.files]
        check_count(len(files), model.input_shape, "the form")
        try:
            probabilities = await model.predict_pictures(files, request.caller)
        except BadPicture as error:
            raise HttpError(400, f"{uploads.files[error.index]} can't be used: {error.message}") from None
        best = [_best(model.labels, one, count) for one in probabilities]
        answer: dict[str, Any] = {"model": model.task.name, "version": model.task.version}
        if len(files) == 1:
            return json_response({**answer, "predictions": best[0]})
        named = [
            {"name": upload.name, "predictions": one} for upload, one in zip(uploads.files, best, strict=True)
        ]
        return json_response({**answer, "files": named})

    summary = "body: a JPEG, PNG, WebP, BMP or GIF file, or a form of such; ?top=K classes (default 5)"
    return [Route("POST", "/classify", summary, classify, reads_body=True)]


def _best(labels: list[str], probabilities: Floats, count: int) -> list[dict[str, Any]]:
    best = np.argsort(-probabilities, kind="stable")[:count].tolist()
    return [{"label": labels[index], "index": index, "probability": probabilities[index]} for index in best]


def _top(request: Request) -> int:
    if not request.query:
        return DEFAULT_TOP
    query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
    return _whole(query.get("top", [str(DEFAULT_TOP)])[-1])


def _whole(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and int(text) > 0):
        raise HttpError(400, f"top must be a whole number from 1, not {text[:40]!r}")
    return int(text)
