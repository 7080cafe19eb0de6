"""The ASGI application: one way for every request, through limits, handler, errors, metrics and log."""

import time

from lepton_workloads.contract.serving import SOURCE_HEADER
from lepton_workloads.logs import Log
from lepton_workloads.serve import page
from lepton_workloads.serve.access_log import AccessLog
from lepton_workloads.serve.caller import MAX_SOURCE, Caller, is_source
from lepton_workloads.serve.figures import Figures
from lepton_workloads.serve.http import (
    BodyReader,
    Disconnected,
    HttpError,
    Receive,
    Request,
    Response,
    Scope,
    Send,
    error_response,
    json_response,
)
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.rest import (
    classify,
    explanations,
    health,
    open_inference,
    openapi,
    tensorflow_serving,
)
from lepton_workloads.serve.router import UNMATCHED, Route, Router
from lepton_workloads.serve.security import Tokens
from lepton_workloads.serve.traces import read_trace

BODY_BUDGET = 64 * 1024**2
"""Bytes of all bodies that are read or worked on at one time."""
CLIENT_CLOSED = 499
"""The code of metrics and log, nginx's, for a client that went away; nobody gets it as an answer."""

log = Log(__name__)


def build_router(model: Model, metrics: Metrics, figures: Figures | None) -> Router:
    """All routes of the server."""
    router = Router()

    async def index(_: Request) -> Response:
        listed = [{"method": r.method, "path": r.path, "summary": r.summary} for r in router.routes]
        task = model.task
        numbers = {"model": task.name, "version": task.version, "version_number": task.version_number}
        return json_response({**numbers, "labels": model.labels[:1000], "routes": listed})

    summary = "this list; for browsers a page to try the model"
    router.add(Route("GET", "/", summary, page.for_browsers(index), open=True))
    router.add(*page.routes(model, figures))
    router.add(*health.routes(model))
    router.add(Route("GET", "/metrics", "metrics in Prometheus' text format", metrics.handle))
    router.add(*classify.routes(model))
    router.add(*tensorflow_serving.routes(model))
    router.add(*open_inference.routes(model))
    router.add(*explanations.routes(model, metrics))
    router.add(openapi.route(model, router))
    return router


class App:
    """The ASGI application."""

    def __init__(
        self,
        model: Model,
        metrics: Metrics,
        access_log: AccessLog,
        tokens: Tokens | None = None,
        figures: Figures | None = None,
    ) -> None:
        """`tokens`: None when everybody may ask. `figures`: of the training, where they are known."""
        self._model = model
        self._tokens = tokens
        self._metrics = metrics
        self._access_log = access_log
        self._router = build_router(model, metrics, figures)
        self._bodies = BodyReader(model.task.max_request_bytes, BODY_BUDGET)
        self.in_flight = 0
        metrics.watch("in_flight_requests", "Requests that are being answered.", lambda: self.in_flight)
        metrics.watch("request_body_bytes", "Bodies that are held in memory.", lambda: self._bodies.held)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request; never raises but for a cancelled task."""
        if scope["type"] != "http":
            raise NotImplementedError("only HTTP is served")
        started = time.perf_counter()
        request = Request(scope["method"], scope["path"], scope["query_string"], scope["headers"])
        self.in_flight += 1
        route, status, error, sent = UNMATCHED, CLIENT_CLOSED, "", 0
        try:
            found = self._router.resolve(request)
            route = found.path
            if self._tokens is not None and not found.open:
                self._tokens.check(request.header(b"authorization"))
            request.caller = self._caller(request)
            response = await self._answer(found, request, receive)
            status = response.status
            sent = await self._send(response, send)
        except Disconnected:
            pass
        except HttpError as failure:
            status, error = failure.status, failure.message
            if request.header(b"expect"):  # the client may never send the body that the parser waits for
                failure.headers.append((b"connection", b"close"))
            sent = await self._send(error_response(failure), send)
        except Exception as failure:
            status, error = 500, "internal error"
            log.error("Failed to answer a request", error=failure, route=route)
            failed = error_response(HttpError(500, "internal error, see the server's log"))
            sent = await self._send(failed, send)
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            self._metrics.observe(route, status, seconds)
            self._access_log.write(
                request.method,
                request.path,
                route,
                status,
                seconds,
                error,
                caller=request.caller,
                received=len(request.body),
                sent=sent,
            )

    def _caller(self, request: Request) -> Caller:
        source = request.header(SOURCE_HEADER.encode())
        if not is_source(source):
            message = f"the header {SOURCE_HEADER} must be at most {MAX_SOURCE} printable characters"
            raise HttpError(400, message)
        traceparent, tracestate = read_trace(request.headers)
        return Caller(
            source=source,
            request_id=request.header(b"x-request-id")[:128],
            traceparent=traceparent,
            tracestate=tracestate,
            deadline=time.monotonic() + self._model.task.timeout_seconds,
        )

    async def _answer(self, route: Route, request: Request, receive: Receive) -> Response:
        if not route.reads_body:
            return await route.handler(request)
        request.body = await self._bodies.read(request, receive)
        try:
            return await route.handler(request)
        finally:
            self._bodies.release(request.body)

    async def _send(self, response: Response, send: Send) -> int:
        """Sends an answer, and says how long its body is."""
        headers = [
            (b"content-type", response.media_type),
            (b"content-length", b"%d" % len(response.body)),
            *response.headers,
        ]
        if self._model.draining:
            headers.append((b"connection", b"close"))  # the client's next request goes to another pod
        await send({"type": "http.response.start", "status": response.status, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})
        return len(response.body)
