"""Why the network says what it says: class activation maps over HTTP, as numbers or laid over the picture.

- `POST /v1/models/{model}:explain`: JSON as `:predict` takes it, up to MAX_INPUTS inputs, and `class` where another
  than the predicted one is asked for. The maps are numbers.
- `POST /explain?class=LABEL_OR_INDEX&format=png|json&size=PIXELS`: a picture file as the body, or in a form, which may
  hold the same three as fields.

Each map comes divided by its own maximum, which is told beside it: maps of different classes compare by that.
"""

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import parse_qs, quote

from lepton_workloads.decode import DecodeError, upright_size
from lepton_workloads.serve.bodies.uploads import read_uploads
from lepton_workloads.serve.engines.engine import Explained, Floats, NotFinite
from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import MAX_PIXELS, BadPicture, Model
from lepton_workloads.serve.rest.heat_map import LONGEST, Normalized, frame_of, normalized, render
from lepton_workloads.serve.rest.tensorflow_serving import Inputs, checked, read_document, read_inputs
from lepton_workloads.serve.router import Route

MAX_INPUTS = 16
"""Of one request: each is a run of its own, and a map is a long text in JSON."""
LARGE_FEATURES = 128 * 1024
"""Numbers from which on a map is computed beside the event loop: below that it takes some 50 us."""
WISHES = {"class", "format", "size"}
NAMED_LABELS = 50
"""Labels that are listed for who asks for another."""
LABEL_HEADER, INDEX_HEADER, PROBABILITY_HEADER = b"lepton-label", b"lepton-index", b"lepton-probability"
MAXIMUM_HEADER = b"lepton-maximum"
"""Of a picture; the label percent-encoded, as headers hold ASCII alone."""


@dataclass(frozen=True, slots=True)
class _Why:
    index: int
    label: str
    probability: float
    heat: Normalized

    def numbers(self) -> dict[str, Any]:
        return {
            "label": self.label,
            "index": self.index,
            "probability": self.probability,
            "shape": self.heat.values.shape,
            "maximum": self.heat.maximum,
            "map": self.heat.values,
        }


def routes(model: Model, metrics: Metrics) -> list[Route]:
    """The routes of explanations."""

    async def explain(request: Request) -> Response:
        data, wishes = await _read_wishes(model, request)
        number = _class_number(model, wishes["class"]) if "class" in wishes else None
        as_json, longest = _wants_json(wishes), _size(wishes)
        try:
            one = await model.decode([data])
        except BadPicture as error:
            raise HttpError(400, f"the picture can't be used: {error.message}") from None
        why = await _why(model, one, number, request)
        try:
            if as_json:
                return await _as_json(model, why, data)
            with metrics.explain_render_seconds.time():
                picture = model.signature.preprocessing.picture
                png = await model.in_pool(render, data, why.heat.values, picture, longest, MAX_PIXELS)
        except DecodeError as error:
            raise HttpError(400, f"the picture can't be used: {error}") from None
        headers = [
            (LABEL_HEADER, quote(why.label).encode()),
            (INDEX_HEADER, b"%d" % why.index),
            (PROBABILITY_HEADER, b"%.7g" % why.probability),
            (MAXIMUM_HEADER, b"%.7g" % why.heat.maximum),
        ]
        return Response(png, media_type=b"image/png", headers=headers)

    base = "/v1/models/{model}"
    summary = "class activation maps as numbers; class: a label or index, by default what is predicted"
    picture = (
        "body: a picture file; its class activation map: ?class=LABEL_OR_INDEX&format=png|json&size=PIXELS"
    )
    return [
        Route("POST", "/explain", picture, explain, reads_body=True),
        *(
            Route("POST", path + ":explain", summary, checked(model, _explain_numbers), reads_body=True)
            for path in (base, base + "/versions/{version}")
        ),
    ]


async def _explain_numbers(model: Model, request: Request) -> Response:
    document, inputs = await model.in_pool(_read, model, request.body)
    number = None if document.get("class") is None else _class_number(model, document["class"])
    try:
        tensor = inputs.tensor if inputs.tensor is not None else await model.decode(inputs.pictures)
        found = []
        for index in range(len(tensor)):
            found.append((await _why(model, tensor[index : index + 1], number, request)).numbers())
    except BadPicture as error:
        raise HttpError(400, f"{inputs.field}[{error.index}] can't be used: {error.message}") from None
    except NotFinite:
        message = f"{inputs.field}: the network has no finite answer to these numbers; they are too large"
        raise HttpError(400, message) from None
    return json_response({"explanations": found})


def _read(model: Model, body: bytes) -> tuple[dict[str, Any], Inputs]:
    document = read_document(model, body)
    for field in ("instances", "inputs"):
        values = document.get(field)
        if isinstance(values, list) and len(values) > MAX_INPUTS:
            raise HttpError(
                400, f"{field} holds {len(values)} inputs, at most {MAX_INPUTS} are explained at once"
            )
    return document, read_inputs(model, body, document)


async def _why(model: Model, one: Floats, number: int | None, request: Request) -> _Why:
    """The map of one input for a class, by default for the most probable one."""
    explained = await model.explain(one, request.caller)
    index = int(explained.probabilities.argmax()) if number is None else number
    if explained.features.size > LARGE_FEATURES:
        heat = await model.in_pool(_heat, model, explained, index)
    else:
        heat = _heat(model, explained, index)
    return _Why(index, model.labels[index], float(explained.probabilities[index]), heat)


def _heat(model: Model, explained: Explained, index: int) -> Normalized:
    return normalized(model.heat(explained, index))


async def _as_json(model: Model, why: _Why, data: bytes) -> Response:
    size = await model.in_pool(upright_size, data, max_pixels=MAX_PIXELS)
    frame = frame_of(size, model.signature.preprocessing.picture)
    return json_response(
        {
            "model": model.task.name,
            "version": model.task.version,
            **why.numbers(),
            "picture": {"width": size[0], "height": size[1]},
            "frame": asdict(frame),
        }
    )


def _class_number(model: Model, wanted: Any) -> int:
    """The index of a class by its label or, where no label is so, by the number itself.

    Raises:
        HttpError: 400, naming the labels.
    """
    labels = model.labels
    if isinstance(wanted, str):
        if wanted in labels:
            return labels.index(wanted)
        if wanted.isascii() and wanted.isdigit() and len(wanted) < 10:
            wanted = int(wanted)
    if isinstance(wanted, int) and not isinstance(wanted, bool) and 0 <= wanted < len(labels):
        return wanted
    named = ", ".join(labels[:NAMED_LABELS])
    more = f" and {len(labels) - NAMED_LABELS} more" if len(labels) > NAMED_LABELS else ""
    message = f"class: there is no {str(wanted)[:100]!r}; there are {named}{more}, or their index from 0"
    raise HttpError(400, message)


async def _read_wishes(model: Model, request: Request) -> tuple[bytes, dict[str, str]]:
    """The picture file, and what is asked for by the query or by fields of the form."""
    query = parse_qs(request.query.decode("latin-1"), keep_blank_values=True)
    uploads = await read_uploads(model, request)
    if len(uploads.files) != 1:
        raise HttpError(400, f"the form holds {len(uploads.files)} files: one picture is explained at a time")
    unknown = sorted(set(uploads.fields) - WISHES)
    if unknown:
        wishes = ", ".join(sorted(WISHES))
        raise HttpError(
            400, f"the form's field {unknown[0][:100]!r} is not known: beside the file there are {wishes}"
        )
    return uploads.files[0].data, {**{name: values[-1] for name, values in query.items()}, **uploads.fields}


def _wants_json(wishes: dict[str, str]) -> bool:
    name = wishes.get("format", "png")
    if name not in ("png", "json"):
        raise HttpError(400, f"format must be png or json, not {name[:40]!r}")
    return name == "json"


def _size(wishes: dict[str, str]) -> int | None:
    text = wishes.get("size")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= LONGEST):
        raise HttpError(400, f"size must be a whole number of pixels from 1 to {LONGEST}, not {text[:40]!r}")
    return int(text)
