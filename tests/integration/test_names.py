"""A name is used again, fast and often: what is there in the end belongs to the last object of that name."""

import asyncio
from functools import partial

from tests.integration.kube import until
from tests.integration.objects import chain
from tests.integration.sandbox import Lab, Sandbox
from tests.integration.traffic import Call

TIMES = 25
OWNED = ("Job", "Deployment", "Service", "PodDisruptionBudget")


def has_written(box: Sandbox, count: int) -> bool:
    """Whether the operator has sent so many writes."""
    return len(box.proxy.writes()) >= count


def owner_uids(box: Sandbox) -> set[str]:
    """uids of the controllers of all children."""
    return {
        child["metadata"]["ownerReferences"][0]["uid"]
        for kind in OWNED
        for child in box.all(kind)
        if "deletionTimestamp" not in child["metadata"]
    }


def test_deleted_and_made_again_many_times_the_last_one_has_all_children(lab: Lab) -> None:
    end = lab.chain_end()
    with lab.sandbox("names", forked=True) as box:
        box.operator.start()
        for number in range(TIMES):
            box.create(*chain())
            # Sometimes at once, sometimes when the operator is in the middle of it.
            wanted = len(box.proxy.writes()) + number % 9
            until(partial(has_written, box, wanted), "some writes", poll=0.02)
            for obj in chain():
                box.delete(obj["kind"], obj["metadata"]["name"])
        box.create(*chain())
        box.wait_dump(end)
        assert owner_uids(box) == {obj["metadata"]["uid"] for obj in box.lepton_objects()}


def test_a_child_is_never_made_for_an_object_that_is_gone(lab: Lab) -> None:
    """The object is deleted and made again between the operator's look at it and its write of a child."""
    end = lab.chain_end()
    with lab.sandbox("name-race", forked=True) as box:
        dead: set[str] = set()
        late: list[Call] = []

        async def replace_owner(call: Call) -> None:
            # Only reads come between: once the operator has asked for the owner, it writes.
            if call.verb == "POST" and call.resource == "jobs" and len(dead) < 3:
                owner = call.body["metadata"]["ownerReferences"][0]
                dead.add(owner["uid"])
                late.append(call)
                await asyncio.to_thread(recreate, box, owner["kind"], owner["name"])

        box.proxy.before_write = replace_owner
        box.operator.start()
        box.create(*chain())
        box.wait_dump(end)
        assert len(late) == 3
        assert not owner_uids(box) & dead


def recreate(box: Sandbox, kind: str, name: str) -> None:
    """Delete, and create again under the same name."""
    obj = box.get(kind, name)
    box.delete(kind, name)
    box.create({**obj, "metadata": {"name": name}, "status": {}})
