"""kopf embedded: with our credentials, in a thread of its own, started again when it ends."""

import asyncio
import contextlib
import logging
import os
import threading
import time
from collections.abc import Callable, Collection, Mapping
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from lepton_operator import metrics
from lepton_operator.cache import Cache
from lepton_operator.cluster import Cluster
from lepton_operator.facts import Json
from lepton_operator.kopf_glue.handlers import build_registry, take
from lepton_operator.logs import fields

log = logging.getLogger(__name__)

UNUSED_FINALIZER = "lepton.ai/unused"
"""kopf strips its own finalizer from every object it watches, other kopf operators' included: with a
name that nobody uses there is nothing to strip."""

MIN_BACKOFF_SECONDS = 0.5
MAX_BACKOFF_SECONDS = 30.0
END_SECONDS = 2.0


class KopfStuck(Exception):
    """kopf has begun to end and doesn't come to it."""


class NoDiffBase(kopf.DiffBaseStorage):
    """Nothing is diffed; computing the base is half of kopf's cost of an event."""

    def build(self, *, body: Any, extra_fields: Any = None) -> Any:
        """Nothing."""
        return {}

    def fetch(self, *, body: Any) -> Any:
        """Nothing."""
        return None

    def store(self, *, body: Any, patch: Any, essence: Any) -> None:
        """Nowhere."""


def operator_settings() -> kopf.OperatorSettings:
    """kopf's settings for watching only: it never writes to an object."""
    settings = kopf.OperatorSettings()
    settings.persistence.finalizer = UNUSED_FINALIZER
    settings.persistence.diffbase_storage = NoDiffBase()
    settings.peering.standalone = True
    settings.scanning.disabled = True
    settings.posting.enabled = False
    settings.networking.request_timeout = 20
    settings.networking.connect_timeout = 5
    settings.networking.error_backoffs = (1, 2, 4, 8, 16, 30, 60)
    settings.watching.server_timeout = 300
    settings.watching.client_timeout = 330
    settings.watching.connect_timeout = 10
    settings.watching.inactivity_timeout = 75
    settings.watching.chunk_size = 500
    settings.queueing.worker_limit = None
    settings.queueing.exit_timeout = 0.5
    settings.queueing.error_delays = (1, 2, 4, 8, 16, 30, 60)
    # kopf would send SIGKILL to its thread, and that ends the whole process: it is left behind instead.
    settings.process.ultimate_exiting_timeout = None
    return settings


async def connection_info(cluster: Cluster) -> kopf.ConnectionInfo:
    """Our client's credentials in kopf's form; kopf asks again after a 401, and ends when they are the same."""
    configuration = cluster.configuration
    authorization = await cluster.authorization()
    scheme, _, token = (authorization or "").partition(" ")
    return kopf.ConnectionInfo(
        server=configuration.host,
        ca_path=_file(configuration.ssl_ca_cert),
        insecure=not configuration.verify_ssl,
        certificate_path=_file(configuration.cert_file),
        private_key_path=_file(configuration.key_file),
        scheme=scheme.capitalize() or None,
        token=token.strip() or None,
        proxy_url=configuration.proxy,
        trust_env=(configuration.client_session_kwargs or {}).get("trust_env", True),
    )


class KopfRunner:
    """Keeps kopf watching, in a thread and an event loop of its own.

    kopf ends for good on an error in the stream of a watch and on refused credentials, and when it ends it
    cancels whatever else runs in its loop. Here that costs a moment without watching: it is started again,
    logged in anew, after a back-off.
    """

    def __init__(
        self, cluster: Cluster, caches: Mapping[str, Cache], namespaces: Collection[str] = ()
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._namespaces = namespaces
        self._stopping = asyncio.Event()
        self._end: Callable[[], None] = _nothing

    async def run(self) -> None:
        """Watch the Lepton kinds until `stop`."""
        failures = 0
        while not self._stopping.is_set():
            started = time.monotonic()
            error = await self._live()
            if self._stopping.is_set():
                return
            failures = 1 if time.monotonic() - started > MAX_BACKOFF_SECONDS else failures + 1
            seconds = min(MAX_BACKOFF_SECONDS, MIN_BACKOFF_SECONDS * 2.0 ** min(failures - 1, 10))
            metrics.WATCH_RESTARTS.labels("kopf", type(error).__name__).inc()
            extra = fields(error=repr(error), retry_seconds=seconds)
            log.warning("kopf ended and is started again", extra=extra)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), seconds)
            await self._cluster.log_in_again()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()
        self._end()

    async def _live(self) -> BaseException | None:
        """One life of kopf; the error that ended it."""
        home = asyncio.get_running_loop()
        ended: asyncio.Future[BaseException | None] = home.create_future()

        def tell(error: BaseException | None) -> None:
            if not ended.done():
                ended.set_result(error)

        def live() -> None:
            # What kopf leaves behind is cancelled when the runner closes, after its end was told.
            with asyncio.Runner() as runner:
                error: BaseException | None = None
                try:
                    runner.run(self._watch(home))
                except BaseException as raised:
                    error = raised
                with contextlib.suppress(RuntimeError):  # the loop at home may be closed by now
                    home.call_soon_threadsafe(tell, error)

        threading.Thread(target=live, name="kopf", daemon=True).start()
        return await ended

    async def _watch(self, home: asyncio.AbstractEventLoop) -> None:
        """In kopf's thread."""
        flag, loop = asyncio.Event(), asyncio.get_running_loop()

        async def login() -> kopf.ConnectionInfo:
            asked = asyncio.run_coroutine_threadsafe(connection_info(self._cluster), home)
            return await asyncio.wrap_future(asked)

        def deliver(kind: str, event: Json) -> None:
            home.call_soon_threadsafe(take, self._caches[kind], event)

        def end() -> None:
            with contextlib.suppress(RuntimeError):  # kopf's loop may be closed by now
                loop.call_soon_threadsafe(flag.set)

        self._end = end
        if self._stopping.is_set():
            return
        ours = set(asyncio.all_tasks())
        tasks = await kopf.spawn_tasks(
            registry=build_registry(deliver, login),
            settings=operator_settings(),
            # kopf would look up the user's name, and a container's numeric user has none.
            identity=Identity("lepton"),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=tuple(self._namespaces),
            stop_flag=flag,
        )
        ending = asyncio.create_task(kopf.run_tasks(tasks, ignored=ours))
        first, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        # A watcher that waits for new credentials while kopf ends never ends itself.
        await asyncio.wait({ending}, timeout=END_SECONDS)
        if not ending.done():
            causes = [task.exception() for task in first if not task.cancelled()]
            raise KopfStuck(f"It did not end within {END_SECONDS:.0f} s after {causes}")
        ending.result()


def _nothing() -> None:
    """No life to end yet."""


def _file(path: str | None) -> str | None:
    return os.fspath(path) if path else None
