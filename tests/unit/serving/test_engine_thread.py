"""When answers leave the engine's thread: several together while others wait, none later than it must."""

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines import thread
from lepton_workloads.serve.engines.thread import EngineThread
from lepton_workloads.serve.metrics import Metrics
from tests.unit.serving.support import DEADLINE_SECONDS, LABELS, SHAPE, FakeEngine

ONE = np.zeros((1, *SHAPE), np.float32)


def answer(batch: Any) -> Any:
    return np.full((len(batch), len(LABELS)), 0.25, np.float32)


async def started(predict: Callable[[Any], Any]) -> EngineThread:
    """A thread whose engine answers so."""
    engine = EngineThread(lambda: FakeEngine(predict), Metrics("digits", "1"))
    engine.start()
    await asyncio.wrap_future(engine.loaded)
    return engine


def ask(engine: EngineThread, count: int) -> list[asyncio.Task[Any]]:
    return [asyncio.create_task(engine.predict(ONE, Caller())) for _ in range(count)]


async def test_what_waits_is_answered_in_few_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    first, goes = threading.Event(), []

    def predict(batch: Any) -> Any:
        assert first.wait(DEADLINE_SECONDS)
        return answer(batch)

    deliver = thread._deliver
    monkeypatch.setattr(thread, "_deliver", lambda results: (goes.append(len(results)), deliver(results)))
    # A machine may stop for longer than two milliseconds whenever it likes.
    monkeypatch.setattr(thread, "TOGETHER_SECONDS", 20 * DEADLINE_SECONDS)
    engine = await started(predict)
    asked = ask(engine, 20)
    await asyncio.sleep(0)
    first.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        answers = await asyncio.gather(*asked)
    assert all(one.shape == (1, len(LABELS)) for one in answers)
    assert sum(goes) == 20
    assert len(goes) <= 2


async def test_an_answer_does_not_wait_for_a_network_that_takes_long() -> None:
    second, calls = threading.Event(), []

    def predict(batch: Any) -> Any:
        calls.append(batch)
        if len(calls) == 1:
            time.sleep(2 * thread.TOGETHER_SECONDS)  # the network's work
        else:
            assert second.wait(DEADLINE_SECONDS)
        return answer(batch)

    engine = await started(predict)
    one, two = ask(engine, 2)
    async with asyncio.timeout(DEADLINE_SECONDS):
        await one
    assert not two.done()
    second.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        await two


async def test_an_answer_does_not_wait_for_a_request_of_many_inputs() -> None:
    large, many = threading.Event(), 1000

    def predict(batch: Any) -> Any:
        if len(batch) == many:
            assert large.wait(DEADLINE_SECONDS)
        else:
            time.sleep(thread.TOGETHER_SECONDS / 8)  # the network's work
        return answer(batch)

    engine = await started(predict)
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(2):
            (small,) = ask(engine, 1)
            other = asyncio.create_task(engine.predict(np.repeat(ONE, many, axis=0), Caller()))
            await small
            assert not other.done()
            large.set()
            await other
            large.clear()


async def test_an_answer_waits_for_nobody_who_has_not_come() -> None:
    engine = await started(answer)
    async with asyncio.timeout(DEADLINE_SECONDS):
        for _ in range(3):
            (only,) = ask(engine, 1)
            assert (await only).shape == (1, len(LABELS))


async def test_inputs_that_can_not_be_made_hurt_nobody_else() -> None:
    first = threading.Event()

    def predict(batch: Any) -> Any:
        assert first.wait(DEADLINE_SECONDS)
        return answer(batch)

    def broken() -> Any:
        raise ValueError("no picture")

    engine = await started(predict)

    def made(make: Callable[[], Any]) -> asyncio.Task[Any]:
        return asyncio.create_task(engine.predict_made(make, 1, ONE.nbytes, Caller()))

    asked = [*ask(engine, 2), made(broken), made(lambda: ONE), *ask(engine, 1), made(broken)]
    await asyncio.sleep(0)
    first.set()
    async with asyncio.timeout(DEADLINE_SECONDS):
        results = await asyncio.gather(*asked, return_exceptions=True)
    assert [str(one) for one in results if isinstance(one, Exception)] == ["no picture"] * 2
    inputs, answers = results[3]
    assert inputs is ONE
    assert answers.shape == (1, len(LABELS))
    assert engine.depth == 0
