"""A thin client of the API server: JSON in, JSON out, a time-out on every call, typed errors.

It stands on the connection of `kubernetes.aio` (TLS, tokens and their refresh, kubeconfig plugins),
without that library's models: reading 10,000 objects into them costs seconds and gigabytes.
"""

import json
import logging
import socket
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Protocol
from urllib.parse import urlencode

import aiohttp
from aiohttp.http_exceptions import LineTooLong
from kubernetes.aio import client

from lepton_operator import __version__, metrics
from lepton_operator.api_errors import Unauthorized, Unreachable, error_from
from lepton_operator.facts import Json
from lepton_operator.logs import fields
from lepton_operator.resources import LEASE, Resource

log = logging.getLogger(__name__)

FIELD_MANAGER = "lepton"
REPLICAS_MANAGER = "lepton-replicas"
"""Holds `spec.replicas` from when we stop applying it until the autoscaler first changes it."""
READ_SECONDS = 15.0
WRITE_SECONDS = 15.0
LIST_SECONDS = 60.0
CONNECT_SECONDS = 5.0
RELOGIN_SECONDS = 10.0
MAX_ERROR_BYTES = 64 * 1024
MAX_EVENT_BYTES = 16 * 1024 * 1024
"""Above any object that etcd keeps; aiohttp's own limit of a line is below what annotations alone may hold."""

READS = ("GET", "WATCH")
LEASES = f"/apis/{LEASE.group}/"

JSON_TYPE = "application/json"
MERGE_PATCH = "application/merge-patch+json"
APPLY_PATCH = "application/apply-patch+yaml"


class Writer(Protocol):
    """What `apply.py` needs of a cluster."""

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The live object; NotFound when there is none."""

    async def create(self, resource: Resource, namespace: str, manifest: Json) -> Json:
        """POST."""

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        manifest: Json,
        *,
        force: bool,
        manager: str = FIELD_MANAGER,
    ) -> Json:
        """Server-side apply under a field manager of ours."""

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge patch."""

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge patch of the status subresource."""

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        """DELETE exactly this uid, dependants in the background; a Status, or the object that lingers."""


class Cluster:
    """One API server, one identity."""

    def __init__(
        self,
        configuration: client.Configuration,
        *,
        in_cluster: bool,
        identity: str = "",
        relogin: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        """`identity` tells operators apart in the API server's audit log."""
        self.configuration = configuration
        self.identity = identity or new_identity()
        self.seconds_to_write: Callable[[], float] = lambda: WRITE_SECONDS
        """Asked before each write: how long it may take; NotLeader when it must not be sent at all."""
        self.in_cluster = in_cluster
        self._rest: Any = client.ApiClient(configuration).rest_client
        self._relogin = relogin
        self._last_login = time.monotonic()

    async def close(self) -> None:
        """Close all connections."""
        await self._rest.close()

    async def authorization(self) -> str | None:
        """The Authorization header, with a token as fresh as its source."""
        settings = await self.configuration.auth_settings()
        bearer = settings.get("BearerToken")
        return bearer["value"] if bearer is not None else None

    # -- reading ------------------------------------------------------------------------------------

    async def get_path(self, path: str, *, seconds: float = READ_SECONDS) -> Json:
        """GET of a path that is not an object, such as discovery."""
        return await self._call("GET", path, resource=path, seconds=seconds)

    async def get(self, resource: Resource, namespace: str, name: str) -> Json:
        """The live object; NotFound when there is none."""
        return await self._call(
            "GET", resource.path(namespace, name), resource=resource.qualified, seconds=READ_SECONDS
        )

    async def list_page(self, resource: Resource, namespace: str | None, query: Mapping[str, str]) -> Json:
        """One page of a list."""
        return await self._call(
            "GET", resource.path(namespace), resource=resource.qualified, query=query, seconds=LIST_SECONDS
        )

    async def watch(
        self,
        resource: Resource,
        namespace: str | None,
        query: Mapping[str, str],
        *,
        inactivity_seconds: float,
    ) -> AsyncIterator[Json]:
        """Events of a watch until the server ends it; Unreachable on silence and on a broken stream."""
        timeout = aiohttp.ClientTimeout(total=None, connect=CONNECT_SECONDS, sock_read=inactivity_seconds)
        path = resource.path(namespace)
        started = time.monotonic()
        response = await self._send("WATCH", path, {**query, "watch": "true"}, None, None, timeout)
        try:
            if response.status != 200:
                body = await response.content.read(MAX_ERROR_BYTES)
                error = error_from(response.status, body, response.headers)
                if isinstance(error, Unauthorized):
                    # The caller tries again, and a quiet cluster has no other call that would log in.
                    await self.log_in_again()
                raise error
            while line := await response.content.readline(max_line_length=MAX_EVENT_BYTES):
                yield json.loads(line)
        except (aiohttp.ClientError, LineTooLong, OSError, TimeoutError, ValueError) as problem:
            raise Unreachable(f"Watch of {resource.qualified} broke: {_text(problem)}") from problem
        finally:
            self._count("WATCH", resource.qualified, response.status, time.monotonic() - started)
            response.close()

    async def read_bytes(self, path: str, *, seconds: float, limit: int) -> bytes:
        """The body at a path (a pod's proxy), at most `limit` bytes of it."""
        timeout = aiohttp.ClientTimeout(total=seconds, connect=min(seconds, CONNECT_SECONDS))
        response = await self._send("GET", path, None, None, None, timeout)
        try:
            body = await _read_limited(response, limit)
        finally:
            response.close()
        if response.status != 200:
            raise error_from(response.status, body, response.headers)
        return body

    # -- writing: called by apply.py, status.py and recorder.py only -----------------------------------------------

    async def create(self, resource: Resource, namespace: str, manifest: Json) -> Json:
        """POST; an unknown field is refused, not dropped."""
        return await self._call(
            "POST",
            resource.path(namespace),
            resource=resource.qualified,
            query={"fieldManager": FIELD_MANAGER, "fieldValidation": "Strict"},
            body=manifest,
            seconds=WRITE_SECONDS,
        )

    async def apply(
        self,
        resource: Resource,
        namespace: str,
        manifest: Json,
        *,
        force: bool,
        manager: str = FIELD_MANAGER,
    ) -> Json:
        """Server-side apply under a field manager of ours."""
        return await self._call(
            "PATCH",
            resource.path(namespace, manifest["metadata"]["name"]),
            resource=resource.qualified,
            query={"fieldManager": manager, "force": "true" if force else "false"},
            body=manifest,
            content_type=APPLY_PATCH,
            seconds=WRITE_SECONDS,
        )

    async def patch(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge patch."""
        return await self._call(
            "PATCH",
            resource.path(namespace, name),
            resource=resource.qualified,
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type=MERGE_PATCH,
            seconds=WRITE_SECONDS,
        )

    async def patch_status(self, resource: Resource, namespace: str, name: str, patch: Json) -> Json:
        """Merge patch of the status subresource."""
        return await self._call(
            "PATCH",
            resource.path(namespace, name, "status"),
            resource=f"{resource.qualified}/status",
            query={"fieldManager": FIELD_MANAGER},
            body=patch,
            content_type=MERGE_PATCH,
            seconds=WRITE_SECONDS,
        )

    async def delete(self, resource: Resource, namespace: str, name: str, uid: str) -> Json:
        """DELETE exactly this uid, dependants in the background; a Status, or the object that lingers."""
        options = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "propagationPolicy": "Background",
            "preconditions": {"uid": uid},
        }
        return await self._call(
            "DELETE",
            resource.path(namespace, name),
            resource=resource.qualified,
            body=options,
            seconds=WRITE_SECONDS,
        )

    # -- leader election: called by lease.py only, never held back -----------------------------------

    async def read_lease(self, namespace: str, name: str, seconds: float) -> Json:
        """The Lease; NotFound when there is none."""
        return await self._call("GET", LEASE.path(namespace, name), resource=LEASE.qualified, seconds=seconds)

    async def write_lease(self, namespace: str, lease: Json, seconds: float) -> Json:
        """Create it when it has no resourceVersion, else replace exactly that version."""
        meta = lease["metadata"]
        exists = "resourceVersion" in meta
        return await self._call(
            "PUT" if exists else "POST",
            LEASE.path(namespace, meta["name"] if exists else None),
            resource=LEASE.qualified,
            query={"fieldManager": FIELD_MANAGER},
            body=lease,
            seconds=seconds,
        )

    # -- the wire -----------------------------------------------------------------------------------

    async def _call(
        self,
        method: str,
        path: str,
        *,
        resource: str,
        seconds: float,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        content_type: str = JSON_TYPE,
    ) -> Json:
        timeout = aiohttp.ClientTimeout(total=seconds, connect=min(seconds, CONNECT_SECONDS))
        try:
            return await self._once(method, path, resource, query, body, content_type, timeout)
        except Unauthorized:
            if not await self.log_in_again():
                raise
        return await self._once(method, path, resource, query, body, content_type, timeout)

    async def _once(
        self,
        method: str,
        path: str,
        resource: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content_type: str,
        timeout: aiohttp.ClientTimeout,
    ) -> Json:
        started = time.monotonic()
        status = 0
        try:
            response = await self._send(method, path, query, body, content_type, timeout)
            async with response:
                status = response.status
                text = await response.read()
            if not 200 <= status <= 299:
                raise error_from(status, text, response.headers)
            answer: Json = json.loads(text)
            return answer
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
            raise Unreachable(f"{method} {path}: {_text(error)}") from error
        finally:
            self._count(method, resource, status, time.monotonic() - started)

    async def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None,
        body: Json | None,
        content_type: str | None,
        timeout: aiohttp.ClientTimeout,
    ) -> aiohttp.ClientResponse:
        headers = {"Accept": JSON_TYPE, "User-Agent": f"lepton/{__version__} ({self.identity})"}
        token = await self.authorization()
        if token:
            headers["Authorization"] = token
        if content_type is not None:
            headers["Content-Type"] = content_type
        url = self.configuration.host + path + (f"?{urlencode(query)}" if query else "")
        if method not in READS and not path.startswith(LEASES):
            timeout = _shortened(timeout, self.seconds_to_write())
        try:
            answer = await self._rest.request(
                "GET" if method == "WATCH" else method,
                url,
                headers=headers,
                body=body,
                _request_timeout=timeout,
            )
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{method} {path}: {_text(error)}") from error
        response: aiohttp.ClientResponse = answer.response
        return response

    async def log_in_again(self) -> bool:
        """Read the credentials anew after a 401, not more often than every few seconds."""
        if self._relogin is None or time.monotonic() - self._last_login < RELOGIN_SECONDS:
            return False
        self._last_login = time.monotonic()
        try:
            await self._relogin()
        except Exception as error:
            # A kubeconfig can be missing or half written for a moment, and a plugin can fail in any way.
            log.warning("Login failed", extra=fields(error=_text(error)))
            return False
        log.info("Logged in again")
        return True

    @staticmethod
    def _count(method: str, resource: str, status: int, seconds: float) -> None:
        metrics.REQUESTS.labels(method, resource, str(status)).inc()
        if method != "WATCH":
            metrics.REQUEST_SECONDS.labels(method).observe(seconds)


def new_identity() -> str:
    """Host name (in a pod: its name) and a part that no other process has."""
    return f"{socket.gethostname()}_{uuid.uuid4().hex[:8]}"


def _shortened(timeout: aiohttp.ClientTimeout, seconds: float) -> aiohttp.ClientTimeout:
    total = seconds if timeout.total is None else min(timeout.total, seconds)
    return aiohttp.ClientTimeout(total=total, connect=timeout.connect, sock_read=timeout.sock_read)


def _text(error: Exception) -> str:
    """Time-outs have no text of their own."""
    return str(error) or type(error).__name__


async def _read_limited(response: aiohttp.ClientResponse, limit: int) -> bytes:
    """The body; ValueError when it is longer than `limit`."""
    body = bytearray()
    try:
        async for chunk in response.content.iter_chunked(limit):
            body += chunk
            if len(body) > limit:
                raise ValueError(f"longer than {limit} bytes")
    except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
        raise Unreachable(f"Body: {_text(error)}") from error
    return bytes(body)
