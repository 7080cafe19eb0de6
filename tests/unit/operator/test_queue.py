"""The work queue, on a clock that only the test moves."""

import asyncio

import pytest

from lepton_operator.facts import Key
from lepton_operator.queue import HIGH_IN_A_ROW, MAX_BACKOFF_SECONDS, Priority, WorkQueue


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> WorkQueue:
    return WorkQueue(clock=clock, chance=lambda: 1.0)


def key(name: str) -> Key:
    return Key("LeptonModel", "ns", name)


def drain(queue: WorkQueue) -> list[str]:
    names = []
    while (taken := queue.take()) is not None:
        names.append(taken.name)
        queue.done(taken)
    return names


def test_a_key_waits_at_most_once(queue: WorkQueue) -> None:
    for name in ("a", "b", "a", "a"):
        queue.add(key(name))
    assert drain(queue) == ["a", "b"]


def test_an_edit_overtakes_the_resync(queue: WorkQueue) -> None:
    for name in ("r1", "r2", "r3"):
        queue.add(key(name), Priority.LOW)
    queue.add(key("edit"))
    queue.add(key("r3"))
    assert drain(queue) == ["edit", "r3", "r1", "r2"]


def test_low_priority_does_not_lower_a_waiting_key(queue: WorkQueue) -> None:
    queue.add(key("a"), Priority.LOW)
    queue.add(key("b"))
    queue.add(key("b"), Priority.LOW)
    assert drain(queue) == ["b", "a"]


def test_a_stream_of_events_does_not_starve_the_resync(queue: WorkQueue) -> None:
    queue.add(key("resync"), Priority.LOW)
    taken = []
    for number in range(HIGH_IN_A_ROW + 1):
        queue.add(key(f"event{number}"))
        queue.add(key(f"more{number}"))
        got = queue.take()
        assert got is not None
        taken.append(got.name)
        queue.done(got)
    assert "resync" in taken


def test_a_key_under_work_is_never_given_twice_but_visited_again(queue: WorkQueue) -> None:
    queue.add(key("a"))
    taken = queue.take()
    assert taken == key("a")
    queue.add(key("a"))
    queue.add(key("a"))
    assert queue.take() is None
    queue.done(taken)
    assert drain(queue) == ["a"]


def test_the_earliest_later_visit_counts(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(key("a"), 10)
    queue.add_after(key("a"), 3)
    queue.add_after(key("a"), 7)
    assert queue.seconds_until_due() == 3
    clock.now += 2.9
    assert queue.take() is None
    clock.now += 0.1
    assert drain(queue) == ["a"]
    clock.now += 60
    assert drain(queue) == []


def test_a_visit_voids_later_visits_asked_for_before_it(queue: WorkQueue, clock: Clock) -> None:
    queue.add_after(key("a"), 5)
    queue.add(key("a"))
    assert drain(queue) == ["a"]
    assert queue.seconds_until_due() is None
    clock.now += 6
    assert drain(queue) == []


def test_a_later_visit_asked_for_during_work_stays(queue: WorkQueue, clock: Clock) -> None:
    queue.add(key("a"))
    taken = queue.take()
    assert taken is not None
    queue.add_after(taken, 5)
    queue.done(taken)
    assert queue.take() is None
    clock.now += 5
    assert drain(queue) == ["a"]


def test_back_off_doubles_up_to_the_cap_and_ends_with_success(queue: WorkQueue, clock: Clock) -> None:
    seconds = []
    for _ in range(12):
        seconds.append(queue.retry(key("a")))
        clock.now += seconds[-1]
        assert drain(queue) == ["a"]
    assert seconds[:4] == pytest.approx([0.25, 0.5, 1.0, 2.0])
    assert seconds[-1] == pytest.approx(MAX_BACKOFF_SECONDS)
    queue.forget(key("a"))
    assert queue.retry(key("a")) == pytest.approx(0.25)


def test_jitter_takes_up_to_half_of_the_back_off(clock: Clock) -> None:
    assert WorkQueue(clock=clock, chance=lambda: 0.0).retry(key("a")) == pytest.approx(0.125)


def test_early_visits_do_not_lengthen_the_back_off(queue: WorkQueue, clock: Clock) -> None:
    queue.retry(key("a"))
    clock.now += 0.05
    for _ in range(5):
        queue.add(key("a"))
        assert drain(queue) == ["a"]
        assert queue.retry(key("a")) == pytest.approx(0.2)
    assert queue.failures(key("a")) == 1


def test_events_cause_no_visit_before_the_server_allows_it(queue: WorkQueue, clock: Clock) -> None:
    queue.add(key("a"))
    taken = queue.take()
    assert taken is not None
    queue.retry(taken, at_least=5)
    queue.add(key("a"))
    queue.done(taken)
    queue.add(key("a"), Priority.LOW)
    assert drain(queue) == []
    clock.now += 4.9
    queue.add(key("a"))
    assert drain(queue) == []
    clock.now += 0.2
    assert drain(queue) == ["a"]
    queue.add(key("a"))
    assert drain(queue) == ["a"]


def test_retry_waits_as_long_as_the_server_asks(queue: WorkQueue, clock: Clock) -> None:
    assert queue.retry(key("a"), at_least=30) == 30
    clock.now += 29
    assert queue.take() is None


def test_back_off_is_per_key(queue: WorkQueue, clock: Clock) -> None:
    for _ in range(8):
        clock.now += queue.retry(key("broken"))
        drain(queue)
    queue.add(key("fine"))
    assert drain(queue) == ["fine"]
    assert queue.retry(key("fine")) == pytest.approx(0.25)


def test_a_dropped_key_leaves_nothing(queue: WorkQueue, clock: Clock) -> None:
    queue.retry(key("a"))
    queue.drop(key("a"))
    clock.now += 100
    assert drain(queue) == []
    assert queue.failures(key("a")) == 0


def test_void_timers_do_not_pile_up(queue: WorkQueue) -> None:
    for _ in range(10_000):
        queue.add(key("a"))
        drain(queue)
        queue.add_after(key("a"), 600)
    assert len(queue._timers) < 200


def test_the_age_of_the_oldest_key(queue: WorkQueue, clock: Clock) -> None:
    assert queue.oldest_seconds() == 0
    queue.add(key("a"), Priority.LOW)
    clock.now += 5
    queue.add(key("b"))
    assert queue.oldest_seconds() == 5


async def test_workers_are_bounded_and_a_failing_one_does_not_end_the_rest(clock: Clock) -> None:
    queue = WorkQueue()
    running = peak = 0
    seen: list[str] = []

    async def work(at: Key) -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running -= 1
        seen.append(at.name)
        if at.name == "5":
            raise RuntimeError("boom")
        if len(seen) >= 20:
            queue.stop()

    for number in range(20):
        queue.add(key(str(number)))
    await asyncio.wait_for(queue.run(work, workers=3), 5)
    assert peak == 3
    assert sorted(set(seen), key=int) == [str(number) for number in range(20)]


async def test_stopping_finishes_the_work_in_hand() -> None:
    queue = WorkQueue()
    started, finish = asyncio.Event(), asyncio.Event()
    done: list[str] = []

    async def work(at: Key) -> None:
        started.set()
        await finish.wait()
        done.append(at.name)

    queue.add(key("a"))
    task = asyncio.create_task(queue.run(work, workers=1))
    await started.wait()
    queue.add(key("b"))
    queue.stop()
    await asyncio.sleep(0)
    assert not task.done()
    finish.set()
    await asyncio.wait_for(task, 5)
    assert done == ["a"]


async def test_when_it_is_cancelled_the_work_in_hand_is_as_well() -> None:
    queue = WorkQueue()
    begun, ended = asyncio.Event(), asyncio.Event()

    async def work(_key: Key) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    queue.add(Key("LeptonModel", "team", "digits"))
    running = asyncio.create_task(queue.run(work, 1))
    await begun.wait()
    # Also while it waits for the work to end by itself.
    queue.stop()
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ended.is_set()
