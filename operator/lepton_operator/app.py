"""Composition root: what exists, in which order it starts and stops, and what ends the process.

Every replica fills its caches and keeps them warm; only the one that holds the Lease works.
"""

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from typing import Any

import aiohttp
from prometheus_client import REGISTRY

from lepton_operator import __version__
from lepton_operator.api_errors import ApiError
from lepton_operator.apply import Applier
from lepton_operator.census import Census
from lepton_operator.cluster import Cluster
from lepton_operator.decide import dataset, model, training_job
from lepton_operator.desired.owner import MANAGED_BY, MANAGER
from lepton_operator.health import HealthServer
from lepton_operator.installed import problem_with_crds
from lepton_operator.kopf_glue.runner import KopfRunner
from lepton_operator.lease import Lease, NoLease
from lepton_operator.liveness import Liveness
from lepton_operator.login import LoginFailed, connect, pod_namespace
from lepton_operator.logs import fields
from lepton_operator.observe import Observer, World
from lepton_operator.queue import Priority, WorkQueue
from lepton_operator.reconciler import Policy, Reconciler
from lepton_operator.recorder import Recorder
from lepton_operator.reports import PULL_SECONDS, ReportBook, ReportPuller, by_address, through_api_server
from lepton_operator.resources import EVENT, OWNED_RESOURCES, POD
from lepton_operator.resync import Resync
from lepton_operator.routing import Router
from lepton_operator.settings import Settings
from lepton_operator.status import StatusWriter
from lepton_operator.watch import Watcher

log = logging.getLogger(__name__)

RETRY_SECONDS = 5.0
WORK_STOP_SECONDS = 6.0
"""The reconcile in hand may finish; with the rest of the shutdown this stays below ten seconds."""
KOPF_STOP_SECONDS = 2.0

POLICIES = {
    "LeptonDataset": Policy(dataset.decide, dataset.claims_needed, dataset.jobs_expected),
    "LeptonTrainingJob": Policy(training_job.decide, training_job.claims_needed, training_job.jobs_expected),
    "LeptonModel": Policy(model.decide, model.claims_needed),
}


class Operator:
    """All parts, connected."""

    def __init__(self, settings: Settings, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._cluster = cluster
        self._lease = _make_lease(settings, cluster)
        cluster.seconds_to_write = self._lease.seconds_to_write
        self._queue = WorkQueue()
        self._router = Router(self._queue)
        self._world = World(self._router.warned)
        book = ReportBook()
        self._puller = ReportPuller(
            book,
            by_address(session) if cluster.in_cluster else through_api_server(cluster),
            interval_seconds=settings.report_interval_seconds,
            on_news=self._queue.add,
        )
        observer = Observer(self._world, cluster, book)
        self._reconciler = Reconciler(
            world=self._world,
            queue=self._queue,
            policies=POLICIES,
            context=settings.decision_context(),
            observer=observer,
            applier=Applier(cluster, self._world, observer.remember_claim),
            status=StatusWriter(cluster),
            recorder=Recorder(cluster),
            puller=self._puller,
        )
        self._resync = Resync(
            cluster,
            self._world,
            self._router,
            namespaces=settings.namespaces,
            seconds=settings.resync_seconds,
        )
        self._watchers = self._make_watchers()
        self._kopf = KopfRunner(cluster, self._world.objects, settings.namespaces)
        self._liveness = Liveness(
            self._queue,
            self._watchers,
            leads=lambda: self._lease.is_held,
            unseen=self._resync.unseen,
            limit_seconds=settings.stuck_seconds,
        )
        self.census = Census(self._world.objects)
        self._missing: str | None = "starting"
        self._tasks: dict[asyncio.Task[None], str] = {}
        self._stopped = asyncio.Event()

    def ready(self) -> str | None:
        """What is missing until every cache is full."""
        return self._missing

    def alive(self) -> str | None:
        """What is stuck, if anything."""
        return self._liveness.problem()

    async def run(self) -> int:
        """Work until a signal (0) or until an essential task ends (1)."""
        self._take_signals()
        stopped = asyncio.create_task(self._stopped.wait())
        start = asyncio.create_task(self._start())
        try:
            await asyncio.wait((stopped, start), return_when=asyncio.FIRST_COMPLETED)
            if not stopped.done():
                start.result()
                log.info("Started", extra=fields(version=__version__))
                await asyncio.wait((stopped, *self._tasks), return_when=asyncio.FIRST_COMPLETED)
            return 0 if stopped.done() else self._report_death()
        finally:
            self._missing = "stopping"
            await _cancel(stopped, start)
            await self._stop()

    async def _start(self) -> None:
        """Nothing is decided before every cache holds its first complete list."""
        await self._wait_for_kinds()
        for watcher in self._watchers:
            self._spawn(f"watch {watcher.name}", watcher.run())
        self._missing = "first lists of children"
        await asyncio.gather(*(watcher.synced.wait() for watcher in self._watchers))
        self._missing = "first lists of Lepton objects"
        await self._first_refresh()
        self._router.attach(self._world, self._puller)
        self._spawn("kopf", self._kopf.run())
        self._spawn("resync", self._resync.run())
        self._spawn("lead", self._lead())
        self._missing = None

    async def _lead(self) -> None:
        """Wait for the Lease, then work for as long as it is held.

        Raises:
            LeaseLost: another may lead; only a new start makes this process a candidate again.
        """
        await self._lease.acquire()
        self._router.everything(Priority.LOW)
        hold = asyncio.create_task(self._lease.hold(), name="hold the Lease")
        work = asyncio.create_task(
            self._queue.run(self._reconciler.reconcile, self._settings.workers), name="workers"
        )
        try:
            await asyncio.wait((hold, work), return_when=asyncio.FIRST_COMPLETED)
            if hold.done():
                hold.result()
            work.result()
        finally:
            await _cancel(work, hold)

    async def _wait_for_kinds(self) -> None:
        said = ""
        while problem := await problem_with_crds(self._cluster):
            self._missing = problem
            if problem != said:
                log.warning("Waiting", extra=fields(reason=problem))
                said = problem
            await asyncio.sleep(RETRY_SECONDS)

    async def _first_refresh(self) -> None:
        while True:
            try:
                return await self._resync.refresh()
            except ApiError as error:
                log.warning("First list failed", extra=fields(status=error.status, error=str(error)))
                await asyncio.sleep(error.retry_after or RETRY_SECONDS)

    async def _stop(self) -> None:
        """The write in hand first, then the Lease goes to another, then all the rest."""
        log.info("Stopping")
        self._queue.stop()
        self._kopf.stop()
        by_name = {name: task for task, name in self._tasks.items()}
        lead, kopf = by_name.pop("lead", None), by_name.pop("kopf", None)
        if lead is not None and self._lease.is_held:
            await asyncio.wait((lead,), timeout=WORK_STOP_SECONDS)
        if lead is not None:
            await _cancel(lead)
        await self._lease.release()
        await self._puller.close()
        await _cancel(*by_name.values())
        if kopf is not None:
            await asyncio.wait((kopf,), timeout=KOPF_STOP_SECONDS)
            await _cancel(kopf)
        log.info("Stopped")

    def _spawn(self, name: str, work: Coroutine[Any, Any, None]) -> None:
        self._tasks[asyncio.create_task(work, name=name)] = name

    def _report_death(self) -> int:
        for task, name in self._tasks.items():
            if task.done():
                error = None if task.cancelled() else task.exception()
                log.error("Essential task ended", extra=fields(task=name, error=repr(error)), exc_info=error)
        return 1

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)

    def _make_watchers(self) -> list[Watcher]:
        ours = {"labelSelector": f"{MANAGED_BY}={MANAGER}"}
        watchers: list[Watcher] = []
        for namespace in self._settings.namespaces or (None,):
            for resource in OWNED_RESOURCES:
                cache = self._world.children[resource.kind]
                watchers.append(Watcher(self._cluster, resource, cache, namespace=namespace, query=ours))
            watchers.append(Watcher(self._cluster, POD, self._world.pods, namespace=namespace, query=ours))
            warnings = {"fieldSelector": "type=Warning"}
            watchers.append(
                Watcher(self._cluster, EVENT, self._world.warnings, namespace=namespace, query=warnings)
            )
        return watchers


async def run(settings: Settings) -> int:
    """The operator's life; the exit code."""
    try:
        cluster = await connect(settings.kubeconfig, settings.context)
    except LoginFailed as error:
        log.error("Login failed", extra=fields(error=str(error)))
        return 1
    timeout = aiohttp.ClientTimeout(total=PULL_SECONDS, connect=2.0)
    async with aiohttp.ClientSession(timeout=timeout, trust_env=False) as session:
        operator = Operator(settings, cluster, session)
        health = HealthServer(settings.health_port, alive=operator.alive, ready=operator.ready)
        REGISTRY.register(operator.census)
        try:
            try:
                await health.start()
            except OSError as error:
                log.error("Health port could not be opened", extra=fields(error=str(error)))
                return 1
            log.info("Connected", extra=fields(server=cluster.configuration.host, version=__version__))
            return await operator.run()
        finally:
            REGISTRY.unregister(operator.census)
            await health.stop()
            await cluster.close()


def _make_lease(settings: Settings, cluster: Cluster) -> Lease | NoLease:
    """In a cluster always; outside only when the user says where."""
    namespace = settings.lease_namespace or (pod_namespace() if cluster.in_cluster else None)
    if namespace is None:
        return NoLease()
    return Lease(cluster, namespace, settings.lease_name, cluster.identity)


async def _cancel(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with contextlib.suppress(asyncio.CancelledError, Exception):
            await task
