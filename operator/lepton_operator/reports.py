"""Pulls the reports of running pods beside the reconciles, at most one per pod and interval.

Pods are not trusted: short time-outs, bounded bodies, no redirects, parsed by the contract, and the
report must name the owner that asked.
"""

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable, Iterable
from functools import partial

import aiohttp

from lepton_operator import metrics
from lepton_operator.actions import Pull
from lepton_operator.api_errors import ApiError
from lepton_operator.cluster import Cluster
from lepton_operator.facts import Key
from lepton_operator.logs import fields
from lepton_workloads.contract.outcome import Report, parse_report
from lepton_workloads.contract.tasks import REPORT_PORT

log = logging.getLogger(__name__)

PULL_SECONDS = 4.0
MAX_REPORT_BYTES = 64 * 1024
MAX_PULLS = 32
"""Pulls at the same time."""

INTERVAL_TOLERANCE = 0.9
"""A visit timed for the next pull may come a moment early."""

Fetch = Callable[[str, Pull], Awaitable[bytes]]
"""(namespace, pull) -> body of GET /report."""


class PullFailed(Exception):
    """No report; the text says why."""


class ReportBook:
    """The last report of each pod."""

    def __init__(self) -> None:
        self._reports: dict[str, Report] = {}

    def get(self, pod_uid: str) -> Report | None:
        """The last report."""
        return self._reports.get(pod_uid)

    def put(self, pod_uid: str, report: Report) -> bool:
        """Keep a report; whether it says something new."""
        if self._reports.get(pod_uid) == report:
            return False
        self._reports[pod_uid] = report
        return True

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self._reports.pop(pod_uid, None)


class ReportPuller:
    """Starts pulls and tells when one brought something new."""

    def __init__(
        self,
        book: ReportBook,
        fetch: Fetch,
        *,
        interval_seconds: float,
        on_news: Callable[[Key], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._book = book
        self._fetch = fetch
        self._interval = interval_seconds
        self._on_news = on_news
        self._clock = clock
        self._last: dict[str, float] = {}
        self._failing: set[str] = set()
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._slots = asyncio.Semaphore(MAX_PULLS)

    def request(self, key: Key, owner_uid: str, pulls: Iterable[Pull]) -> None:
        """Pull what is due, in the background."""
        for pull in pulls:
            if pull.pod_uid in self._tasks or not self._is_due(pull):
                continue
            self._last[pull.pod_uid] = self._clock()
            task = asyncio.create_task(self._pull(key, owner_uid, pull), name=f"pull {pull.pod_name}")
            self._tasks[pull.pod_uid] = task
            task.add_done_callback(partial(self._ended, pull.pod_uid))

    def _is_due(self, pull: Pull) -> bool:
        last = self._last.get(pull.pod_uid)
        interval = pull.interval_seconds or self._interval
        return last is None or self._clock() - last >= interval * INTERVAL_TOLERANCE

    def forget(self, pod_uid: str) -> None:
        """The pod is gone."""
        self._last.pop(pod_uid, None)
        self._failing.discard(pod_uid)
        self._book.forget(pod_uid)
        task = self._tasks.get(pod_uid)
        if task is not None:
            task.cancel()

    def _ended(self, pod_uid: str, _task: asyncio.Task[None]) -> None:
        self._tasks.pop(pod_uid, None)

    async def close(self) -> None:
        """Cancel what is under way."""
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _pull(self, key: Key, owner_uid: str, pull: Pull) -> None:
        try:
            async with self._slots, asyncio.timeout(PULL_SECONDS):
                report = _parse(await self._fetch(key.namespace, pull), owner_uid)
        except (PullFailed, ApiError, TimeoutError) as error:
            metrics.REPORT_PULLS.labels("failed").inc()
            if pull.pod_uid not in self._failing and pull.pod_uid in self._last:
                self._failing.add(pull.pod_uid)
                text = str(error) or type(error).__name__
                log.debug("Report was not pulled", extra=fields(key, pod=pull.pod_name, error=text))
            return
        metrics.REPORT_PULLS.labels("done").inc()
        self._failing.discard(pull.pod_uid)
        if pull.pod_uid in self._last and self._book.put(pull.pod_uid, report):
            self._on_news(key)


def _parse(body: bytes, owner_uid: str) -> Report:
    try:
        report = parse_report(json.loads(body))
    except (ValueError, RecursionError):
        report = None
    if report is None:
        raise PullFailed("Not a report")
    if report.owner_uid != owner_uid:
        raise PullFailed("Report of another owner")
    return report


def through_api_server(cluster: Cluster) -> Fetch:
    """From outside the cluster: by the API server's pod proxy."""

    async def fetch(namespace: str, pull: Pull) -> bytes:
        path = f"/api/v1/namespaces/{namespace}/pods/{pull.pod_name}:{REPORT_PORT}/proxy/report"
        return await cluster.read_bytes(path, seconds=PULL_SECONDS, limit=MAX_REPORT_BYTES)

    return fetch


def by_address(session: aiohttp.ClientSession) -> Fetch:
    """From inside the cluster: straight from the pod."""

    async def fetch(_namespace: str, pull: Pull) -> bytes:
        host = f"[{pull.pod_ip}]" if ":" in pull.pod_ip else pull.pod_ip
        url = f"http://{host}:{REPORT_PORT}/report"
        try:
            async with session.get(url, allow_redirects=False) as response:
                if response.status != 200:
                    raise PullFailed(f"HTTP {response.status}")
                body = bytearray()
                async for chunk in response.content.iter_chunked(MAX_REPORT_BYTES):
                    body += chunk
                    if len(body) > MAX_REPORT_BYTES:
                        raise PullFailed(f"Longer than {MAX_REPORT_BYTES} bytes")
                return bytes(body)
        except (aiohttp.ClientError, OSError) as error:
            raise PullFailed(str(error) or type(error).__name__) from error

    return fetch
