"""Leader election: one at a time, judged by each candidate's own clock, over every failure of a call."""

import asyncio
import copy
from collections.abc import Callable
from typing import Any

import pytest

from lepton_operator import lease as module
from lepton_operator.api_errors import AlreadyExists, ApiError, Conflict, NotFound, NotLeader, Unreachable
from lepton_operator.lease import LEASE_SECONDS, RENEW_DEADLINE_SECONDS, Lease, LeaseLost


class Clock:
    """Goes on only when a candidate waits, or when the test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Leases:
    """An API server with one Lease; `fail` may raise before a call, `lose` after it."""

    def __init__(self) -> None:
        self.held: dict[str, Any] | None = None
        self.version = 0
        self.fail: Callable[[str], ApiError | None] = lambda _verb: None
        self.lose: Callable[[str], ApiError | None] = lambda _verb: None

    async def read_lease(self, namespace: str, name: str, seconds: float) -> Any:
        if error := self.fail("get"):
            raise error
        if self.held is None:
            raise NotFound("no Lease", status=404)
        return copy.deepcopy(self.held)

    async def write_lease(self, namespace: str, lease: Any, seconds: float) -> Any:
        if error := self.fail("write"):
            raise error
        version = lease["metadata"].get("resourceVersion")
        if version is None and self.held is not None:
            raise AlreadyExists("there", status=409)
        if version is not None and self.held is None:
            raise NotFound("gone", status=404)
        if self.held is not None and version != self.held["metadata"]["resourceVersion"]:
            raise Conflict("changed", status=409)
        self.version += 1
        self.held = copy.deepcopy(lease)
        self.held["metadata"]["resourceVersion"] = str(self.version)
        if error := self.lose("write"):
            raise error
        return copy.deepcopy(self.held)

    @property
    def holder(self) -> str | None:
        return self.held["spec"]["holderIdentity"] if self.held else None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Waiting takes no time and moves the clock."""
    clock = Clock()
    sleep = asyncio.sleep

    async def quick(seconds: float) -> None:
        clock.now += seconds
        await sleep(0)

    monkeypatch.setattr(module.asyncio, "sleep", quick)
    return clock


def candidate(leases: Leases, clock: Clock, name: str) -> Lease:
    return Lease(leases, "system", "lepton-operator", name, clock=clock)


async def test_the_first_takes_it_and_may_write(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    with pytest.raises(NotLeader):
        first.seconds_to_write()
    await first.acquire()
    assert leases.holder == "a"
    assert leases.held is not None
    assert leases.held["spec"]["leaseTransitions"] == 0
    assert first.seconds_to_write() == LEASE_SECONDS


async def test_a_second_waits_until_the_first_is_silent_for_as_long_as_a_lease_lasts(clock: Clock) -> None:
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    await first.acquire()
    before = clock.now
    await second.acquire()
    assert leases.holder == "b"
    assert clock.now - before >= LEASE_SECONDS
    # The first knows by its own clock, before any call.
    with pytest.raises(NotLeader):
        first.seconds_to_write()
    with pytest.raises(LeaseLost, match="b holds"):
        await first.hold()


async def test_no_write_is_allowed_past_the_deadline_and_none_may_last_into_anothers_time(
    clock: Clock,
) -> None:
    first = candidate(Leases(), clock, "a")
    await first.acquire()
    clock.now += RENEW_DEADLINE_SECONDS - 0.1
    assert first.seconds_to_write() == pytest.approx(LEASE_SECONDS - RENEW_DEADLINE_SECONDS + 0.1)
    clock.now += 0.2
    with pytest.raises(NotLeader):
        first.seconds_to_write()


async def test_a_lease_given_back_is_taken_at_once(clock: Clock) -> None:
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    await first.acquire()
    await first.release()
    assert not first.is_held
    before = clock.now
    await second.acquire()
    assert clock.now == before


async def test_a_renewal_cut_short_by_the_stop_does_not_keep_it(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    await first.acquire()
    assert leases.held is not None
    # The server took a renewal whose answer never came.
    leases.version += 1
    leases.held["metadata"]["resourceVersion"] = str(leases.version)
    await first.release()
    assert leases.holder == ""


async def test_renewals_that_fail_end_it_by_the_deadline(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    await first.acquire()
    before = clock.now
    leases.fail = lambda _verb: Unreachable("silence")
    with pytest.raises(LeaseLost, match="not renewed"):
        await first.hold()
    assert RENEW_DEADLINE_SECONDS <= clock.now - before < LEASE_SECONDS
    assert not first.is_held


async def test_a_short_trouble_costs_nothing(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    await first.acquire()
    troubles = iter([Unreachable("silence"), Unreachable("silence"), None, None, None])

    def fail(_verb: str) -> ApiError | None:
        try:
            return next(troubles)
        except StopIteration:
            raise KeyboardInterrupt from None

    leases.fail = fail
    with pytest.raises(KeyboardInterrupt):
        await first.hold()
    assert first.is_held


async def test_a_renewal_whose_answer_is_lost_is_our_own(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    await first.acquire()
    lost = iter([Unreachable("late")])
    leases.lose = lambda _verb: next(lost, None)
    renewals = 0

    def fail(verb: str) -> ApiError | None:
        nonlocal renewals
        renewals += verb == "write"
        if renewals > 4:
            raise KeyboardInterrupt
        return None

    leases.fail = fail
    with pytest.raises(KeyboardInterrupt):
        await first.hold()
    assert first.is_held
    assert leases.holder == "a"


async def test_of_two_that_start_together_one_leads(clock: Clock) -> None:
    leases = Leases()
    both = [candidate(leases, clock, name) for name in "ab"]
    tasks = [asyncio.create_task(each.acquire()) for each in both]
    done, pending = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, return_exceptions=True)
    assert len(done) == 1
    assert sum(each.is_held for each in both) == 1


async def test_a_deleted_lease_is_not_taken_before_its_holder_must_know(clock: Clock) -> None:
    leases = Leases()
    first, second = candidate(leases, clock, "a"), candidate(leases, clock, "b")
    await first.acquire()
    waiting = asyncio.create_task(second.acquire())
    await asyncio.sleep(0.5)
    leases.held = None
    deleted = clock.now
    await waiting
    assert clock.now - deleted >= RENEW_DEADLINE_SECONDS
    assert not first.is_held


async def test_its_holder_makes_a_deleted_lease_again(clock: Clock) -> None:
    leases = Leases()
    first = candidate(leases, clock, "a")
    await first.acquire()
    leases.held = None
    holding = asyncio.create_task(first.hold())
    for _ in range(20):
        await asyncio.sleep(0.01)
    holding.cancel()
    await asyncio.gather(holding, return_exceptions=True)
    assert leases.holder == "a"
    assert first.is_held
