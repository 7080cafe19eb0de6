"""One visit: decide on what is there, write, look again, write the status once."""

from collections.abc import Callable
from typing import Any

import pytest

from lepton_operator.actions import Apply, Emit, Plan
from lepton_operator.api_errors import ServerError, TooManyRequests
from lepton_operator.apply import Applier
from lepton_operator.context import Context
from lepton_operator.facts import Json, Key, Observed
from lepton_operator.observe import Observer, World
from lepton_operator.queue import WorkQueue
from lepton_operator.reconciler import Policy, Reconciler
from lepton_operator.recorder import Recorder
from lepton_operator.reports import ReportBook, ReportPuller
from lepton_operator.status import StatusWriter
from tests.unit.operator.cluster_fake import FakeCluster

KEY = Key("LeptonModel", "ns", "m")
SERVICE = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "m"}, "spec": {"x": 1}}


def simple(observed: Observed) -> Plan:
    """A service; the status says how far it is."""
    if observed.refusals:
        word = observed.refusals[0].reason
    else:
        word = "Ready" if ("Service", "m") in observed.children else "Creating"
    events = (Emit("Normal", word, word),) if observed.object.get("status", {}).get("word") != word else ()
    return Plan({"word": word, "none": None}, (Apply(SERVICE),), events, requeue_after=600)


class Stage:
    def __init__(self) -> None:
        self.now = 1000.0
        self.cluster = FakeCluster()
        self.queue = WorkQueue(clock=lambda: self.now, chance=lambda: 1.0)
        self.world = World(lambda _subject: None)
        self.decide: Callable[[Observed], Plan] = simple
        self.seen: list[Observed] = []
        book = ReportBook()
        observer = Observer(self.world, self.cluster, book)
        self.reconciler = Reconciler(
            world=self.world,
            queue=self.queue,
            policies={"LeptonModel": Policy(self._decide, lambda _obj: ())},
            context=Context("trainer", "server"),
            observer=observer,
            applier=Applier(self.cluster, self.world, observer.remember_claim),
            status=StatusWriter(self.cluster, clock=lambda: self.now),
            recorder=Recorder(self.cluster),
            puller=ReportPuller(book, _no_fetch, interval_seconds=10, on_news=self.queue.add),
        )
        self.cache = self.world.objects["LeptonModel"]
        self.cache.upsert(self.cluster.put("LeptonModel", "ns", "m", spec={}))

    def _decide(self, observed: Observed, _context: Context, _now: float) -> Plan:
        self.seen.append(observed)
        return self.decide(observed)

    async def visit(self) -> list[tuple[str, str]]:
        """The writes of one visit, Events by kind only."""
        before = len(self.cluster.calls)
        await self.reconciler.reconcile(KEY)
        return [
            (verb, "Event" if what.startswith("Event/") else what)
            for verb, what in self.cluster.calls[before:]
            if verb != "get"
        ]

    def status(self) -> Json:
        live: Json = self.cluster.objects["LeptonModel", "ns", "m"]["status"]
        return live


async def _no_fetch(_namespace: str, _pull: Any) -> bytes:
    raise AssertionError


@pytest.fixture
def stage() -> Stage:
    return Stage()


async def test_one_status_write_tells_of_the_world_after_the_writes(stage: Stage) -> None:
    assert await stage.visit() == [
        ("apply-new", "Service/m"),
        ("status", "LeptonModel/m"),
        ("create", "Event"),
    ]
    assert stage.status() == {"word": "Ready"}
    assert stage.queue.failures(KEY) == 0
    assert stage.queue.seconds_until_due() == 600


async def test_a_second_visit_writes_nothing(stage: Stage) -> None:
    await stage.visit()
    assert await stage.visit() == []


async def test_a_step_that_waits_for_its_status_comes_at_once_after_it_and_never_without_it(
    stage: Stage,
) -> None:
    stage.decide = lambda _observed: Plan({"word": "told"}, again=True)
    await stage.visit()
    assert stage.queue.take() == KEY
    stage.queue.done(KEY)
    assert await stage.visit() == []
    assert stage.queue.take() is None


async def test_a_refusal_stands_in_the_status_of_the_same_visit_and_goes_with_its_cause(stage: Stage) -> None:
    stage.cluster.put("Service", "ns", "m")
    tried = ("apply-new", "Service/m")
    assert await stage.visit() == [tried, ("status", "LeptonModel/m"), ("create", "Event")]
    assert stage.status() == {"word": "NameConflict"}
    assert stage.queue.seconds_until_due() == pytest.approx(0.25)
    assert await stage.visit() == []
    del stage.cluster.objects["Service", "ns", "m"]
    await stage.visit()
    assert stage.status() == {"word": "Ready"}
    assert stage.queue.failures(KEY) == 0


async def test_a_gone_or_deleted_object_is_left_alone(stage: Stage) -> None:
    held = stage.cache.get("ns", "m")
    assert held is not None
    stage.queue.add_after(KEY, 5)
    meta = {**held["metadata"], "resourceVersion": "50", "deletionTimestamp": "2026-01-01T00:00:00Z"}
    stage.cache.upsert({**held, "metadata": meta})
    assert await stage.visit() == []
    stage.cache.remove(held)
    assert await stage.visit() == []
    assert stage.seen == []
    assert stage.queue.seconds_until_due() is None


async def test_a_ghost_in_the_cache_gets_no_children(stage: Stage) -> None:
    del stage.cluster.objects["LeptonModel", "ns", "m"]
    assert await stage.visit() == []


async def test_a_status_write_to_a_gone_object_clears_the_cache(stage: Stage) -> None:
    await stage.visit()
    del stage.cluster.objects["LeptonModel", "ns", "m"]
    stage.decide = lambda _observed: Plan({"word": "Other"})
    await stage.visit()
    assert stage.cache.get("ns", "m") is None


async def test_what_a_decision_throws_is_retried_with_back_off(stage: Stage) -> None:
    def broken(_observed: Observed) -> Plan:
        raise ZeroDivisionError

    stage.decide = broken
    assert await stage.visit() == []
    assert stage.queue.failures(KEY) == 1
    stage.decide = simple
    await stage.visit()
    assert stage.queue.failures(KEY) == 0


async def test_the_server_says_how_long_to_wait(stage: Stage) -> None:
    error = TooManyRequests("slow down", status=429, retry_after=30)
    stage.cluster.fail = lambda verb, _resource: error if verb == "apply-new" else None
    await stage.visit()
    assert stage.queue.seconds_until_due() == 30


async def test_a_write_that_goes_on_failing_shows_in_the_status_until_it_succeeds(stage: Stage) -> None:
    error = TooManyRequests("slow down", status=429)
    stage.cluster.fail = lambda verb, _resource: error if verb == "apply-new" else None
    for _ in range(2):
        assert await stage.visit() == [("apply-new", "Service/m")]
        stage.now += 60
    assert ("status", "LeptonModel/m") in await stage.visit()
    assert stage.status() == {"word": "ApiError"}
    assert "slow down" in stage.seen[-1].refusals[0].message
    stage.cluster.fail = lambda _verb, _resource: None
    stage.now += 60
    await stage.visit()
    assert stage.status() == {"word": "Ready"}
    assert stage.queue.failures(KEY) == 0


async def test_a_lost_event_does_not_fail_the_visit(stage: Stage) -> None:
    def fail(_verb: str, resource: Any) -> ServerError | None:
        return ServerError("no", status=500) if resource.kind == "Event" else None

    stage.cluster.fail = fail
    await stage.visit()
    assert stage.status() == {"word": "Ready"}
    assert stage.queue.failures(KEY) == 0


async def test_an_event_waits_for_its_status(stage: Stage) -> None:
    error = ServerError("no", status=500)
    stage.cluster.fail = lambda verb, _resource: error if verb == "status" else None
    assert ("create", "Event") not in await stage.visit()
    stage.cluster.fail = lambda _verb, _resource: None
    assert await stage.visit() == [("status", "LeptonModel/m"), ("create", "Event")]


async def test_figures_are_gathered_for_a_second_and_flips_go_at_once(stage: Stage) -> None:
    figure = 0
    urgent = False
    stage.decide = lambda _observed: Plan({"figure": figure}, urgent=urgent)
    assert len(await stage.visit()) == 1
    figure = 1
    stage.now += 0.25
    assert await stage.visit() == []
    assert stage.queue.seconds_until_due() == pytest.approx(0.75)
    urgent = True
    assert len(await stage.visit()) == 1
    urgent, figure = False, 2
    stage.now += 1
    assert len(await stage.visit()) == 1
    assert stage.status() == {"figure": 2}


async def test_fields_that_end_are_removed_from_the_status(stage: Stage) -> None:
    stage.decide = lambda _observed: Plan({"a": 1, "deep": {"x": 1, "y": 2}})
    await stage.visit()
    stage.decide = lambda _observed: Plan({"deep": {"y": 3}})
    await stage.visit()
    assert stage.status() == {"deep": {"y": 3}}


async def test_a_server_that_drops_a_field_is_not_asked_for_ever(stage: Stage) -> None:
    stage.cluster.mutate = lambda obj: obj.get("status", {}).pop("unknown", None)
    stage.decide = lambda _observed: Plan({"a": 1, "unknown": 2})
    assert len(await stage.visit()) == 1
    assert await stage.visit() == []


async def test_a_child_that_the_server_changes_backs_off(stage: Stage) -> None:
    def mutate(obj: Any) -> None:
        if obj.get("kind") == "Service":
            obj["spec"]["x"] = 5

    stage.cluster.mutate = mutate
    for expected in (0.25, 0.5, 1.0):
        await stage.visit()
        delay = stage.queue.seconds_until_due()
        assert delay == pytest.approx(expected)
        stage.now += expected
        stage.queue.take()
        stage.queue.done(KEY)


async def test_a_new_uid_of_the_name_is_not_taken_for_the_old(stage: Stage) -> None:
    await stage.visit()
    stage.cache.upsert(stage.cluster.put("LeptonModel", "ns", "m", spec={}))
    tried = ("apply-new", "Service/m")
    assert await stage.visit() == [tried, ("status", "LeptonModel/m"), ("create", "Event")]
    assert stage.status() == {"word": "WaitingForDeletion"}
