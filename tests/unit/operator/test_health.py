"""Liveness and the census: what /healthz and /metrics tell."""

from prometheus_client import CollectorRegistry, generate_latest

from lepton_operator.cache import Cache
from lepton_operator.census import Census
from lepton_operator.facts import Key
from lepton_operator.liveness import Liveness
from lepton_operator.queue import WorkQueue
from lepton_operator.resources import LEPTON_RESOURCES

KEY = Key("LeptonModel", "team", "digits")


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


class Watch:
    name = "jobs.batch"
    silent = 0.0

    def silent_seconds(self) -> float:
        return self.silent


class Parts:
    """A Liveness whose parts can be broken."""

    def __init__(self) -> None:
        self.clock, self.watch = Clock(), Watch()
        self.queue = WorkQueue(clock=self.clock)
        self.leads, self.unseen = True, None
        self.liveness = Liveness(
            self.queue,
            [self.watch],
            leads=lambda: self.leads,
            unseen=lambda _limit: self.unseen,
            limit_seconds=300,
        )


def test_all_is_well_while_things_move() -> None:
    parts = Parts()
    parts.queue.add(KEY)
    parts.clock.now, parts.watch.silent = 299.0, 299.0
    assert parts.liveness.problem() is None


def test_a_key_that_nobody_takes_is_stuck() -> None:
    parts = Parts()
    parts.queue.add(KEY)
    parts.clock.now = 301.0
    assert "queue" in (parts.liveness.problem() or "")


def test_a_visit_that_does_not_end_is_stuck() -> None:
    parts = Parts()
    parts.queue.add(KEY)
    parts.queue.take()
    parts.clock.now = 301.0
    assert "queue" in (parts.liveness.problem() or "")


def test_a_standby_may_wait() -> None:
    parts = Parts()
    parts.leads = False
    parts.queue.add(KEY)
    parts.clock.now = 9999.0
    assert parts.liveness.problem() is None


def test_a_silent_watch_is_named() -> None:
    parts = Parts()
    parts.watch.silent = 301.0
    assert "jobs.batch" in (parts.liveness.problem() or "")


def test_the_census_counts_objects_by_condition_and_reason() -> None:
    resource = next(item for item in LEPTON_RESOURCES if item.kind == "LeptonModel")
    cache = Cache(resource)

    def put(name: str, ready: str | None, reason: str = "") -> None:
        rows = [{"type": "Ready", "status": ready, "reason": reason}] if ready else []
        meta = {"namespace": "team", "name": name, "uid": name, "resourceVersion": "1"}
        cache.upsert({"metadata": meta, "spec": {}, "status": {"conditions": rows}})

    put("one", "True", "Serving")
    put("two", "True", "Serving")
    put("three", "False", "OutOfMemory")
    put("four", None)
    registry = CollectorRegistry()
    registry.register(Census({"LeptonModel": cache}))
    text = generate_latest(registry).decode()
    assert 'lepton_objects{condition="Ready",kind="LeptonModel",status="True"} 2.0' in text
    assert 'lepton_objects{condition="Ready",kind="LeptonModel",status="False"} 1.0' in text
    assert 'lepton_object_reasons{kind="LeptonModel",reason="OutOfMemory"} 1.0' in text
    assert 'lepton_object_reasons{kind="LeptonModel",reason="NotSeen"} 1.0' in text
