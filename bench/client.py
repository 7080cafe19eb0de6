"""The benchmark's own client: plain JSON over HTTP, so that both sides of a comparison are driven alike."""

import asyncio
import json
import ssl
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlencode

import aiohttp

Json = dict[str, Any]
T = TypeVar("T")

CONCURRENCY = 16
"""Requests at a time when many objects are made."""
USER_AGENT = "lepton-bench"
MERGE_PATCH = "application/merge-patch+json"
LOOK_SECONDS = 0.05


class BenchError(Exception):
    """A measure could not be taken; the text says why."""


class Client:
    """Calls to one API server, as administrator."""

    def __init__(self, kubeconfig: Path, pki: Path) -> None:
        """`pki` has the files ca.crt, admin.crt and admin.key."""
        config = json.loads(kubeconfig.read_text())
        tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._session = aiohttp.ClientSession(
            base_url=config["clusters"][0]["cluster"]["server"],
            connector=aiohttp.TCPConnector(ssl=tls, limit=0),
            timeout=aiohttp.ClientTimeout(total=60),
            headers={"User-Agent": USER_AGENT},
            trust_env=False,
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def get(self, path: str, query: dict[str, str] | None = None) -> Json:
        """GET of an object or a list."""
        return await self._call("GET", path, query=query)

    async def create(self, path: str, manifest: Json, *, may_exist: bool = False) -> None:
        """POST."""
        await self._call("POST", path, body=manifest, allowed=(409,) if may_exist else ())

    async def create_all(self, objects: Iterable[tuple[str, Json]]) -> None:
        """POST all (path, manifest), so many at a time, in order."""
        await _each(objects, lambda pair: self.create(*pair))

    async def delete_all(self, path: str) -> None:
        """DELETE every object of a collection, so many at a time: the server's own way takes one after the other."""
        items = (await self.get(path))["items"]
        await _each(items, lambda item: self.delete(f"{path}/{item['metadata']['name']}"))

    async def patch(self, path: str, body: Json) -> None:
        """Merge patch."""
        await self._call("PATCH", path, body=body, content_type=MERGE_PATCH)

    async def apply(self, path: str, manifest: Json) -> None:
        """Server-side apply."""
        query = {"fieldManager": USER_AGENT, "force": "true"}
        await self._call(
            "PATCH", path, body=manifest, content_type="application/apply-patch+yaml", query=query
        )

    async def delete(self, path: str) -> None:
        """DELETE of an object, dependants in the background; a missing one is fine."""
        await self._call("DELETE", path, query={"propagationPolicy": "Background"}, allowed=(404,))

    async def watch(
        self, path: str, version: str, query: dict[str, str] | None = None
    ) -> AsyncIterator[Json]:
        """Events from `version` on, until the caller is cancelled; a watch that ends is an error."""
        asked = {**(query or {}), "watch": "true", "resourceVersion": version, "timeoutSeconds": "3600"}
        timeout = aiohttp.ClientTimeout(total=None)
        async with self._session.get(f"{path}?{urlencode(asked)}", timeout=timeout) as response:
            buffered = b""
            async for chunk in response.content.iter_any():
                *lines, buffered = (buffered + chunk).split(b"\n")
                for line in lines:
                    event: Json = json.loads(line)
                    if event["type"] == "ERROR":
                        raise BenchError(f"Watch of {path}: {event['object']}")
                    yield event
        raise BenchError(f"The watch of {path} ended")

    async def until(
        self, look: Callable[[], Awaitable[Any]], what: str, seconds: float, every: float = LOOK_SECONDS
    ) -> Any:
        """The first true answer of `look`; BenchError past the deadline."""
        end = time.monotonic() + seconds
        while True:
            if answer := await look():
                return answer
            if time.monotonic() > end:
                raise BenchError(f"Waiting for {what}: not so after {seconds:.0f} s")
            await asyncio.sleep(every)

    async def _call(
        self,
        method: str,
        path: str,
        *,
        query: dict[str, str] | None = None,
        body: Json | None = None,
        content_type: str = "application/json",
        allowed: tuple[int, ...] = (),
    ) -> Json:
        url = f"{path}?{urlencode(query)}" if query else path
        headers = {"Content-Type": content_type} if body is not None else {}
        data = json.dumps(body) if body is not None else None
        async with self._session.request(method, url, data=data, headers=headers) as response:
            text = await response.text()
            if response.status >= 400 and response.status not in allowed:
                raise BenchError(f"{method} {path}: {response.status} {text[:500]}")
        found: Json = json.loads(text)
        return found


async def _each(items: Iterable[T], work: Callable[[T], Awaitable[None]]) -> None:
    """Some at a time, begun in order."""
    waiting = iter(list(items))

    async def worker() -> None:
        for item in waiting:
            await work(item)

    await asyncio.gather(*(worker() for _ in range(CONCURRENCY)))
