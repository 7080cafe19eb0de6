"""One way for every gRPC call, as `app` is for HTTP: token, message, deadline, handler, errors, metrics and log."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import grpc
import grpc.aio
from google.protobuf.message import DecodeError, Message

from lepton_workloads.contract.serving import SOURCE_HEADER
from lepton_workloads.logs import Log
from lepton_workloads.serve.access_log import AccessLog
from lepton_workloads.serve.caller import MAX_SOURCE, Caller, is_source
from lepton_workloads.serve.http import BODY_SECONDS, RETRY_SECONDS, HttpError, overloaded
from lepton_workloads.serve.metrics import Metrics
from lepton_workloads.serve.traces import checked_traceparent, checked_tracestate

MESSAGE_BUDGET = 64 * 1024**2
"""Bytes of all messages that are worked on at one time."""
MAX_DETAILS = 1000
"""Characters of an error: details travel in a header, and clients bound those to 8 KiB."""
UNFINISHED = "CANCELLED"
"""The code of metrics and log for a call whose client went away."""

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    408: grpc.StatusCode.DEADLINE_EXCEEDED,
    412: grpc.StatusCode.FAILED_PRECONDITION,
    413: grpc.StatusCode.RESOURCE_EXHAUSTED,
    415: grpc.StatusCode.INVALID_ARGUMENT,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    501: grpc.StatusCode.UNIMPLEMENTED,
    503: grpc.StatusCode.UNAVAILABLE,
    504: grpc.StatusCode.DEADLINE_EXCEEDED,
}
"""What the server's other rooms raise as an HTTP status; others are INTERNAL."""

Handler = Callable[[Any, Caller], Awaitable[Message]]
Context: TypeAlias = "grpc.aio.ServicerContext[Any, Any]"
Allows = Callable[[str], bool]
"""Whether a value of the metadata `authorization` opens the server."""

log = Log(__name__)


@dataclass(frozen=True, slots=True)
class Method:
    """A method of a service. Its message is read only when the call may be answered at all."""

    service: str
    name: str
    request: type[Message]
    handler: Handler
    open: bool = False
    """Whether it needs no token: probes have none."""


@dataclass(slots=True)
class _Told:
    """What is known of a call when it ends, for the log."""

    caller: Caller = field(default_factory=Caller)
    received: int = 0
    sent: int = 0


class Calls:
    """Answers the calls of all services."""

    def __init__(
        self,
        metrics: Metrics,
        access_log: AccessLog,
        *,
        timeout: float,
        limit: int,
        allows: Allows | None = None,
    ) -> None:
        """`timeout`: seconds for a call whose client would wait longer; `limit`: bytes of a message."""
        self._metrics = metrics
        self._access_log = access_log
        self._timeout = timeout
        self._budget = max(MESSAGE_BUDGET, limit)
        self._limit = limit
        self._allows = allows
        self._held = 0
        self.in_flight = 0
        metrics.watch("grpc_in_flight_calls", "gRPC calls that are being answered.", lambda: self.in_flight)
        metrics.watch("grpc_message_bytes", "gRPC messages that are held in memory.", lambda: self._held)

    def service(self, methods: Sequence[Method]) -> grpc.GenericRpcHandler:
        """gRPC's handler for the methods of one service."""
        handlers = {method.name: self._wired(method) for method in methods}
        return grpc.method_handlers_generic_handler(methods[0].service, handlers)

    def _wired(self, method: Method) -> "grpc.RpcMethodHandler[Any, Any]":
        """A stream of requests to gRPC, of which the first is read: so a call can be refused before its message."""

        async def answer(_: AsyncIterator[bytes], context: Context) -> bytes:
            return await self._call(method, context)

        return grpc.stream_unary_rpc_method_handler(answer)

    async def _call(self, method: Method, context: Context) -> bytes:
        started = time.perf_counter()
        code, error, told = UNFINISHED, "", _Told()
        self.in_flight += 1
        try:
            answer = await self._answer(method, context, told)
            code, told.sent = "OK", len(answer)
            return answer
        except HttpError as failure:
            status = CODES.get(failure.status, grpc.StatusCode.INTERNAL)
            code, error = status.name, failure.message
            await _refuse(context, status, failure)
        except grpc.aio.BaseError:
            raise  # the client has gone while its message was read
        except Exception as failure:
            code, error = "INTERNAL", "internal error"
            log.error("Failed to answer a call", error=failure, route=f"grpc/{method.name}")
            await context.abort(grpc.StatusCode.INTERNAL, "internal error, see the server's log")
        finally:
            self.in_flight -= 1
            seconds = time.perf_counter() - started
            route = f"grpc/{method.name}"
            self._metrics.observe(route, code, seconds)
            self._access_log.write(
                "POST",
                f"/{method.service}/{method.name}",
                route,
                code,
                seconds,
                error,
                caller=told.caller,
                received=told.received,
                sent=told.sent,
            )
        raise AssertionError("abort raises")

    async def _answer(self, method: Method, context: Context, told: _Told) -> bytes:
        caller = told.caller = self._caller(method, context)
        data = await self._read(context)
        told.received = len(data)
        self._held += len(data)
        try:
            if self._held > self._budget:
                raise overloaded("too many large requests are being worked on")
            try:
                request = method.request.FromString(data)
            except DecodeError:
                raise HttpError(400, f"the message is no {method.request.DESCRIPTOR.full_name}") from None
            return (await method.handler(request, caller)).SerializeToString()
        finally:
            self._held -= len(data)

    def _caller(self, method: Method, context: Context) -> Caller:
        source = request_id = traceparent = tracestate = authorization = ""
        for key, value in context.invocation_metadata() or ():
            if isinstance(value, bytes):
                continue
            if key == SOURCE_HEADER:
                source = value
            elif key == "x-request-id":
                request_id = value[:128]
            elif key == "traceparent":
                traceparent = checked_traceparent(value.strip())
            elif key == "tracestate":
                tracestate = checked_tracestate(value.strip())
            elif key == "authorization":
                authorization = value
        if self._allows is not None and not method.open and not self._allows(authorization):
            raise HttpError(
                401, "a token is needed: send the metadata authorization with Bearer and the token"
            )
        if not is_source(source):
            raise HttpError(
                400, f"the metadata {SOURCE_HEADER} must be at most {MAX_SOURCE} printable characters"
            )
        left: float | None = context.time_remaining()
        seconds = self._timeout if left is None else min(left, self._timeout)
        return Caller(
            source, request_id, traceparent, tracestate if traceparent else "", time.monotonic() + seconds
        )

    async def _read(self, context: Context) -> bytes:
        """The call's message; a client that sends it too slowly must not hold a call for ever."""
        try:
            async with asyncio.timeout(BODY_SECONDS):
                data = await context.read()
        except TimeoutError:
            raise HttpError(408, f"the message was not whole after {BODY_SECONDS} seconds") from None
        if not isinstance(data, bytes):
            raise HttpError(400, f"the call holds no message of at most {self._limit} bytes")
        return data


async def _refuse(context: Context, status: grpc.StatusCode, failure: HttpError) -> None:
    """Ends the call; one that makes sense again later says when, in the words of gRPC's retries."""
    retry = any(name == b"retry-after" for name, _ in failure.headers)
    trailers = (("grpc-retry-pushback-ms", str(1000 * RETRY_SECONDS)),) if retry else ()
    await context.abort(status, failure.message[:MAX_DETAILS], trailers)
