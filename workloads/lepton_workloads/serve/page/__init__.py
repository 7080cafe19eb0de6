"""`GET /` for browsers: a page to try the model with, whole in one answer, that asks nobody but this server.

The page holds nothing of the model: what it shows it asks for with the token of the person before it, so it may be had
without one. Its policy lets no script run but its own, by its hash, and no request leave for another server.
"""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from lepton_workloads.serve.figures import Figures
from lepton_workloads.serve.http import Request, Response, json_response
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.router import Handler, Route

VARY = (b"vary", b"accept")


def routes(model: Model, figures: Figures | None) -> list[Route]:
    """What the page asks for beside what everybody may ask for; `figures` of the training, where there are any."""

    async def about(_: Request) -> Response:
        task = model.task
        return json_response(
            {
                "model": task.name,
                "version": task.version,
                "precision": task.precision,
                "classes": len(model.labels),
                "explanations": model.explainer is not None,
                "max_request_bytes": task.max_request_bytes,
                "training": figures.content if figures else None,
            }
        )

    return [Route("GET", "/about", "what is served, and how good it was when it was trained", about)]


def for_browsers(otherwise: Handler) -> Handler:
    """The page for who asks for HTML, as browsers do; for all others the answer of `otherwise`."""

    async def handle(request: Request) -> Response:
        if "text/html" in request.header(b"accept").lower():
            return page()
        response = await otherwise(request)
        response.headers.append(VARY)
        return response

    return handle


@cache
def page() -> Response:
    """The page, put together when it is first asked for."""
    folder = files(__name__)
    html, style, script = ((folder / name).read_bytes() for name in ("page.html", "page.css", "page.js"))
    body = html.replace(b"/* style */", style).replace(b"/* script */", script)
    policy = (
        b"default-src 'none'; connect-src 'self'; img-src blob: data:; base-uri 'none'; form-action 'none'; "
        b"frame-ancestors 'none'; script-src " + _source(script) + b"; style-src " + _source(style)
    )
    headers = [
        (b"content-security-policy", policy),
        (b"permissions-policy", b"camera=(self), microphone=(), geolocation=()"),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
        (b"cache-control", b"no-cache"),
        VARY,
    ]
    return Response(body, media_type=b"text/html; charset=utf-8", headers=headers)


def _source(text: bytes) -> bytes:
    return b"'sha256-" + base64.b64encode(hashlib.sha256(text).digest()) + b"'"
