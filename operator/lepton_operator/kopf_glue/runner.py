"""kopf embedded in our event loop, with our credentials and our signal handling."""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from typing import Any

import kopf
from kopf._core.engines.peering import Identity

from lepton_operator.cache import Cache
from lepton_operator.cluster import Cluster
from lepton_operator.kopf_glue.handlers import build_registry

UNUSED_FINALIZER = "lepton.ai/unused"
"""kopf strips its own finalizer from every object it watches, other kopf operators' included: with a
name that nobody uses there is nothing to strip."""

STOP_SECONDS = 8.0

LOGIN_RETRY_SECONDS = 2.0
LOGIN_TRIES = 150
"""Five minutes; then kopf ends and the operator with it, to start again from nothing."""


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
    settings.process.ultimate_exiting_timeout = STOP_SECONDS
    return settings


async def connection_info(cluster: Cluster) -> kopf.ConnectionInfo:
    """Our client's credentials in kopf's form; kopf asks again after every 401."""
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


class Credentials:
    """Our client's credentials, for kopf, which asks at its start and after every 401.

    kopf ends when it is given what was refused before: the answer comes once there is something new.
    """

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self._given: kopf.ConnectionInfo | None = None

    async def __call__(self) -> kopf.ConnectionInfo:
        """What is known now; the second time and later, other than what was given before."""
        info = await connection_info(self._cluster)
        tries = 0
        while info == self._given and tries < LOGIN_TRIES:
            tries += 1
            if not await self._cluster.log_in_again():
                await asyncio.sleep(LOGIN_RETRY_SECONDS)
            info = await connection_info(self._cluster)
        self._given = info
        return info


class KopfRunner:
    """Runs kopf until it is stopped; when `run` returns or raises otherwise, watching has ended."""

    def __init__(
        self, cluster: Cluster, caches: Mapping[str, Cache], namespaces: Collection[str] = ()
    ) -> None:
        self._cluster = cluster
        self._caches = caches
        self._namespaces = namespaces
        self._stop = asyncio.Event()

    async def run(self, install_signal_handlers: Callable[[], None]) -> None:
        """Watch the Lepton kinds. kopf takes the signals for itself when it starts; they are taken back."""
        registry = build_registry(self._caches, Credentials(self._cluster))
        ours = set(asyncio.all_tasks())
        tasks = await kopf.spawn_tasks(
            registry=registry,
            settings=operator_settings(),
            # kopf would look up the user's name, and a container's numeric user has none.
            identity=Identity("lepton"),
            standalone=True,
            clusterwide=not self._namespaces,
            namespaces=tuple(self._namespaces),
            stop_flag=self._stop,
        )
        install_signal_handlers()
        await kopf.run_tasks(tasks, ignored=ours)

    def stop(self) -> None:
        """End `run`. kopf cancels every task that is younger than itself: stop all other work before."""
        self._stop.set()


def _file(path: str | None) -> str | None:
    return os.fspath(path) if path else None
