"""The client against a real HTTP server: typed errors, time-outs, bounded bodies, tokens."""

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from kubernetes.aio import client

from lepton_operator import api_errors, cluster
from lepton_operator.actions import Pull
from lepton_operator.cluster import Cluster
from lepton_operator.facts import Key
from lepton_operator.kopf_glue.runner import UNUSED_FINALIZER, connection_info, operator_settings
from lepton_operator.login import LoginFailed, connect
from lepton_operator.logs import JsonFormatter, fields
from lepton_operator.reports import ReportBook, ReportPuller, through_api_server
from lepton_operator.resources import JOB, LEPTON_RESOURCES

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Server:
    """Answers every request by `handler` and keeps the requests."""

    def __init__(self) -> None:
        self.handler: Handler = self._ok
        self.requests: list[tuple[str, str, dict[str, str], str]] = []
        self.headers: list[Any] = []

    async def _ok(self, _request: web.Request) -> web.StreamResponse:
        return web.json_response({"metadata": {"name": "x"}})

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.requests.append((request.method, request.path, dict(request.query), await request.text()))
        self.headers.append(request.headers)
        return await self.handler(request)

    def always(self, status: int, body: Any, **headers: str) -> None:
        async def handler(_request: web.Request) -> web.StreamResponse:
            return web.json_response(body, status=status, headers=headers)

        self.handler = handler


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", server.answer)
    async with TestServer(app) as running:
        server.url = str(running.make_url("")).rstrip("/")  # type: ignore[attr-defined]
        yield server


@pytest.fixture
async def api(server: Server) -> AsyncIterator[Cluster]:
    configuration = client.Configuration(host=server.url)  # type: ignore[attr-defined]
    configuration.api_key["BearerToken"] = "Bearer one"

    async def relogin() -> None:
        configuration.api_key["BearerToken"] = "Bearer two"

    api = Cluster(configuration, in_cluster=False, relogin=relogin)
    yield api
    await api.close()


async def test_writes_carry_their_preconditions(server: Server, api: Cluster) -> None:
    await api.apply(JOB, "ns", {"metadata": {"name": "j"}}, force=True)
    await api.delete(JOB, "ns", "j", "uid-1")
    await api.patch_status(LEPTON_RESOURCES[0], "ns", "d", {"status": {"a": None}})
    apply, delete, status = server.requests
    assert apply[:3] == (
        "PATCH",
        "/apis/batch/v1/namespaces/ns/jobs/j",
        {"fieldManager": "lepton", "force": "true"},
    )
    assert json.loads(delete[3])["preconditions"] == {"uid": "uid-1"}
    assert json.loads(delete[3])["propagationPolicy"] == "Background"
    assert status[1] == "/apis/lepton.ai/v1alpha1/namespaces/ns/leptondatasets/d/status"
    assert json.loads(status[3]) == {"status": {"a": None}}
    types = [headers["Content-Type"] for headers in server.headers]
    assert types == ["application/apply-patch+yaml", "application/json", "application/merge-patch+json"]


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (400, "BadRequest", api_errors.BadRequest),
        (403, "Forbidden", api_errors.Forbidden),
        (404, "NotFound", api_errors.NotFound),
        (409, "Conflict", api_errors.Conflict),
        (409, "AlreadyExists", api_errors.AlreadyExists),
        (410, "Expired", api_errors.Gone),
        (422, "Invalid", api_errors.Invalid),
        (429, "TooManyRequests", api_errors.TooManyRequests),
        (503, "ServiceUnavailable", api_errors.ServerError),
    ],
)
async def test_errors_have_types(server: Server, api: Cluster, status: int, reason: str, kind: type) -> None:
    server.always(status, {"kind": "Status", "reason": reason, "message": "why"}, **{"Retry-After": "3"})
    with pytest.raises(api_errors.ApiError) as caught:
        await api.get(JOB, "ns", "j")
    error = caught.value
    assert type(error) is kind
    assert (str(error), error.status, error.reason, error.retry_after) == ("why", status, reason, 3.0)


async def test_an_error_that_is_no_json_keeps_its_text(server: Server, api: Cluster) -> None:
    async def handler(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=502, text="<html>bad gateway</html>")

    server.handler = handler
    with pytest.raises(api_errors.ServerError, match="bad gateway"):
        await api.get(JOB, "ns", "j")


async def test_a_silent_server_is_unreachable(
    server: Server, api: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "READ_SECONDS", 0.05)

    async def handler(_request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response()

    server.handler = handler
    with pytest.raises(api_errors.Unreachable):
        await api.get(JOB, "ns", "j")


async def test_a_refused_connection_is_unreachable() -> None:
    api = Cluster(client.Configuration(host="http://127.0.0.1:1"), in_cluster=False)
    with pytest.raises(api_errors.Unreachable):
        await api.get(JOB, "ns", "j")
    await api.close()


async def test_an_expired_token_is_replaced_once(
    server: Server, api: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cluster, "RELOGIN_SECONDS", 0.0)

    async def handler(request: web.Request) -> web.StreamResponse:
        good = request.headers["Authorization"] == "Bearer two"
        return web.json_response({"reason": "Unauthorized"}, status=200 if good else 401)

    server.handler = handler
    await api.get(JOB, "ns", "j")
    assert len(server.requests) == 2


async def test_a_watch_gives_events_and_ends_with_the_stream(server: Server, api: Cluster) -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        for number in range(3):
            await response.write(json.dumps({"type": "ADDED", "object": {"n": number}}).encode() + b"\n")
        return response

    server.handler = handler
    events = [event async for event in api.watch(JOB, None, {"a": "b"}, inactivity_seconds=5)]
    assert [event["object"]["n"] for event in events] == [0, 1, 2]
    assert server.requests[0][1:3] == ("/apis/batch/v1/jobs", {"a": "b", "watch": "true"})


async def test_a_watch_that_falls_silent_or_is_cut_says_so(server: Server, api: Cluster) -> None:
    async def silent(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "BOOKMARK"}\n')
        await asyncio.sleep(0.5)
        return response

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await response.write(b'{"type": "BOOK')
        assert request.transport is not None
        request.transport.abort()
        return response

    for handler in (silent, cut):
        server.handler = handler
        with pytest.raises(api_errors.Unreachable):
            async for _ in api.watch(JOB, None, {}, inactivity_seconds=0.05):
                pass


async def test_a_watch_at_an_old_version_is_gone(server: Server, api: Cluster) -> None:
    server.always(410, {"reason": "Expired", "message": "too old"})
    with pytest.raises(api_errors.Gone):
        async for _ in api.watch(JOB, None, {}, inactivity_seconds=5):
            pass


REPORT = {"ownerUid": "o1", "phase": "Training", "epoch": 1}
PULL = Pull("pod-uid", "t-a1-0", "10.0.0.1")
KEY = Key("LeptonTrainingJob", "ns", "t")


class Puller:
    """A puller on a clock that only the test moves."""

    def __init__(self, api: Cluster) -> None:
        self.now = 0.0
        self.news: list[Key] = []
        self.book = ReportBook()
        self.puller = ReportPuller(
            self.book,
            through_api_server(api),
            interval_seconds=10,
            on_news=self.news.append,
            clock=lambda: self.now,
        )

    async def pull(self, after: float = 0.0, pull: Pull = PULL) -> None:
        self.now += after
        self.puller.request(KEY, "o1", (pull,))
        await asyncio.gather(*self.puller._tasks.values())
        await asyncio.sleep(0)


async def test_a_report_is_pulled_once_an_interval_and_told_when_new(server: Server, api: Cluster) -> None:
    stage = Puller(api)
    server.always(200, REPORT)
    await stage.pull()
    await stage.pull(after=5)
    assert server.requests[0][1] == "/api/v1/namespaces/ns/pods/t-a1-0:9090/proxy/report"
    assert (len(server.requests), stage.news) == (1, [KEY])
    await stage.pull(after=5)
    assert (len(server.requests), len(stage.news)) == (2, 1)
    server.always(200, {**REPORT, "epoch": 2})
    await stage.pull(after=10)
    assert len(stage.news) == 2
    report = stage.book.get("pod-uid")
    assert report is not None
    assert report.epoch == 2


async def test_a_pull_may_have_an_interval_of_its_own(server: Server, api: Cluster) -> None:
    stage = Puller(api)
    server.always(200, REPORT)
    slow = replace(PULL, interval_seconds=60.0)
    for after, count in ((0, 1), (30, 1), (23, 1), (2, 2)):
        await stage.pull(after, slow)
        assert len(server.requests) == count


@pytest.mark.parametrize(
    "body", [{**REPORT, "ownerUid": "another"}, {"no": "report"}, [], {**REPORT, "x": "y" * 70_000}]
)
async def test_a_pod_is_not_trusted(server: Server, api: Cluster, body: Any) -> None:
    stage = Puller(api)
    server.always(200, body)
    await stage.pull()
    assert (stage.book.get("pod-uid"), stage.news) == (None, [])


async def test_a_pod_that_does_not_answer_keeps_its_last_report(server: Server, api: Cluster) -> None:
    stage = Puller(api)
    server.always(200, REPORT)
    await stage.pull()
    server.always(503, {"message": "no endpoint"})
    await stage.pull(after=10)
    assert stage.book.get("pod-uid") is not None
    stage.puller.forget("pod-uid")
    assert stage.book.get("pod-uid") is None


async def test_a_pod_that_goes_while_it_is_asked_leaves_nothing(server: Server, api: Cluster) -> None:
    stage = Puller(api)
    asked = asyncio.Event()

    async def slow(_request: web.Request) -> web.StreamResponse:
        asked.set()
        await asyncio.sleep(0.2)
        return web.json_response(REPORT)

    server.handler = slow
    stage.puller.request(KEY, "o1", (PULL,))
    await asked.wait()
    stage.puller.forget("pod-uid")
    await stage.puller.close()
    assert (stage.book.get("pod-uid"), stage.puller._tasks, stage.puller._last) == (None, {}, {})


async def test_kopf_gets_the_same_credentials(api: Cluster) -> None:
    info = await connection_info(api)
    assert (info.server, info.scheme, info.token) == (api.configuration.host, "Bearer", "one")


def test_kopf_never_kills_the_operator() -> None:
    """Its last resort is SIGKILL to its thread, which ends the process, leader or not."""
    assert operator_settings().process.ultimate_exiting_timeout is None


def test_kopf_leaves_other_operators_finalizers_alone() -> None:
    settings = operator_settings()
    assert settings.persistence.finalizer == UNUSED_FINALIZER
    assert not settings.posting.enabled
    assert settings.queueing.worker_limit is None
    assert settings.scanning.disabled
    assert settings.peering.standalone
    storage = settings.persistence.diffbase_storage
    assert storage.build(body={}) == {}  # type: ignore[arg-type]
    assert storage.fetch(body={}) is None  # type: ignore[arg-type]


async def test_a_missing_kubeconfig_is_one_sentence(tmp_path: Any) -> None:
    with pytest.raises(LoginFailed, match="No way into a cluster"):
        await connect(str(tmp_path / "none"), None)


def test_log_lines_are_json_with_the_object_in_them() -> None:
    record = logging.LogRecord("x", logging.WARNING, "f", 1, 'Said "%s"\n', ("hi",), None)
    record.__dict__.update(fields(KEY, reason="Why", missing=None))
    line = JsonFormatter().format(record)
    assert "\n" not in line
    parsed = json.loads(line)
    assert parsed.pop("time").endswith("+00:00")
    assert parsed == {
        "level": "warning",
        "logger": "x",
        "message": 'Said "hi"\n',
        "kind": "LeptonTrainingJob",
        "namespace": "ns",
        "name": "t",
        "reason": "Why",
    }
