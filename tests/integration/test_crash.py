"""The operator is killed around its k-th write, for every k, and starts again from nothing: the end is the same.

Two ways to die: the server has done the write and the operator never learns of it, or the operator knows of
all writes before and the next one never leaves it.
"""

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.integration import plays
from tests.integration.kube import until
from tests.integration.objects import chain, dataset, training_job
from tests.integration.proxy import Cut
from tests.integration.sandbox import Lab, Sandbox, side_by_side
from tests.integration.traffic import Call, writes_by_kind

pytestmark = pytest.mark.timeout(1800)

MORE_WRITES = 1.5
"""A second life may write a status again, tell an Event again, and pass through states the first one skipped."""


def nothing(_box: Sandbox) -> None:
    """Nothing is there before."""


def everything(box: Sandbox) -> None:
    """One object of each kind."""
    box.create(*chain())


def prepared(box: Sandbox) -> None:
    """A dataset, and pods of trainings that end with code 1 the first time."""
    box.script.training = plays.in_turn(plays.exits(1, "out of luck"), plays.trains)
    box.create(dataset())


def edit_everything(box: Sandbox) -> None:
    """Another preparation, another training, another version, more and bigger pods."""
    box.edit("LeptonDataset", "digits", {"revision": "second", "parallelism": 2})
    box.edit("LeptonTrainingJob", "cnn", {"backoffLimit": 5, "activeDeadlineSeconds": 7200})
    # With data of its own: which revision of `digits` it would find is a matter of milliseconds.
    box.create(dataset("more"), training_job("better", dataset="more", workers=2))
    source = {"trainingJob": {"name": "better"}}
    box.edit(
        "LeptonModel", "digits", {"source": source, "replicas": 3, "resources": {"requests": {"cpu": "50m"}}}
    )


def train_twice(box: Sandbox) -> None:
    """A training whose first attempt fails."""
    box.create(training_job())


@dataclass(frozen=True)
class Story:
    """What is there before, and what a user does while the operator dies."""

    before: Callable[[Sandbox], None]
    act: Callable[[Sandbox], None]


STORIES = {
    "create": Story(nothing, everything),
    "update": Story(everything, edit_everything),
    "second attempt": Story(prepared, train_twice),
}
DEATHS = ("answer lost", "unsent")


def begin(box: Sandbox, story: Story) -> int:
    """Everything is as it was before the story; the number of writes until then."""
    box.operator.start()
    story.before(box)
    box.wait_settled()
    until(box.operator.is_idle, "that the operator rests")
    return len(box.proxy.writes())


@dataclass(frozen=True)
class Undisturbed:
    """How the story goes when nobody dies."""

    end: list[str]
    writes: int
    by_kind: dict[str, int]


def undisturbed(lab: Lab, story: Story) -> Undisturbed:
    """Tell the story once."""
    with lab.sandbox("undisturbed", forked=True) as box:
        before = begin(box, story)
        story.act(box)
        box.wait_settled()
        until(box.operator.is_idle, "that the operator rests")
        calls = box.proxy.writes()[before:]
        return Undisturbed(box.dump(), len(calls), dict(writes_by_kind(calls)))


def die_at(box: Sandbox, death: str, number: int, died: threading.Event) -> None:
    """Kill the operator around its write of that number."""

    async def die(call: Call) -> None:
        if call.number == number:
            box.proxy.sever()
            box.operator.kill_now()
            died.set()
            raise Cut

    if death == "unsent":
        box.proxy.before_write = die
    else:
        box.proxy.after_write = die


@pytest.mark.parametrize("name", STORIES)
def test_killed_around_any_write_the_end_is_the_same(lab: Lab, name: str) -> None:
    story = STORIES[name]
    calm = undisturbed(lab, story)
    deaths: set[tuple[str, int]] = set()

    def run(case: tuple[str, int]) -> None:
        death, number = case
        with lab.sandbox(f"{name}-{death}-{number}", forked=True) as box:
            died = threading.Event()
            before = begin(box, story)
            die_at(box, death, before + number, died)
            story.act(box)
            until(lambda: died.is_set() or box.dump() == calm.end, box.report, 120)
            if died.is_set():
                deaths.add(case)
                box.operator.wait()
                box.proxy.restore()
                box.operator.start(wait=False)
            box.wait_dump(calm.end)
            check_writes(calm, box.proxy.writes()[before:])

    cases = [(death, number) for death in DEATHS for number in range(1, calm.writes + 1)]
    side_by_side(cases, run)
    # The number of status writes differs a little from run to run: the last numbers may not be reached.
    assert len(deaths) >= 0.8 * len(cases), sorted(set(cases) - deaths)


def check_writes(calm: Undisturbed, calls: list[Call]) -> None:
    """Every child was made once, and little was written twice."""
    done = writes_by_kind(calls)
    text = "\n".join(map(str, calls))
    made = {kind: count for kind, count in done.items() if kind.startswith("POST ") and kind != "POST events"}
    wanted = {kind: count for kind, count in calm.by_kind.items() if kind in made}
    assert made == wanted, f"{made}, undisturbed {calm.by_kind}\n{text}"
    assert len(calls) <= MORE_WRITES * calm.writes + 1, f"undisturbed {calm.writes} writes\n{text}"


@pytest.mark.parametrize("killed", [True, False], ids=["killed", "alive"])
def test_deleted_around_any_write_nothing_is_left(lab: Lab, killed: bool) -> None:
    story = STORIES["create"]
    calm = undisturbed(lab, story)

    def run(number: int) -> None:
        with lab.sandbox(f"delete-{number}", forked=True) as box:
            done = threading.Event()

            def delete_all() -> None:
                for obj in chain():
                    box.delete(obj["kind"], obj["metadata"]["name"])

            async def delete_then(call: Call) -> None:
                if call.number != number:
                    return
                if killed:
                    box.proxy.sever()
                    box.operator.kill_now()
                await asyncio.to_thread(delete_all)
                done.set()
                if killed:
                    raise Cut

            box.proxy.before_write = delete_then
            begin(box, Story(nothing, nothing))
            story.act(box)
            until(lambda: done.is_set() or box.dump() == calm.end, box.report)
            if not done.is_set():
                delete_all()
            elif killed:
                box.operator.wait()
                box.proxy.restore()
                box.operator.start()
            box.wait_empty()
            until(box.operator.is_idle, "that the operator rests")
            if killed:
                # One that was on its way beside the fatal write is cut like it: the server saw neither.
                late = [call for call in box.proxy.writes() if call.number >= number and call.code]
                assert not late, box.report()
            # What is left: the store, which outlives its objects.
            assert {obj["metadata"]["name"] for obj in box.all("PersistentVolumeClaim")} <= {"lepton-store"}

    side_by_side(range(1, calm.writes + 1), run)
