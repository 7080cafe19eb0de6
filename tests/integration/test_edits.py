"""Users edit while the operator dies again and again: the last spec is what is there in the end."""

import random
from functools import partial

from tests.integration.kube import Object, until
from tests.integration.objects import chain
from tests.integration.sandbox import Lab, Sandbox, side_by_side

SEEDS = range(4)
EDITS = 24
LAST_MODEL: Object = {"replicas": 2, "resources": {"requests": {"cpu": "70m", "memory": "64Mi"}}}
LAST_DATASET: Object = {"revision": "last", "parallelism": 1, "image": {"height": 32, "width": 32}}


def random_edit(box: Sandbox, chance: random.Random) -> None:
    """An edit of the model or the dataset that the CRD takes."""
    if chance.random() < 0.7:
        spec: Object = {"replicas": chance.randrange(5)}
        if chance.random() < 0.3:
            spec["resources"] = {"requests": {"cpu": f"{chance.randrange(10, 90)}m"}}
        box.edit("LeptonModel", "digits", spec)
        return
    size = chance.choice((16, 24, 32))
    box.edit(
        "LeptonDataset",
        "digits",
        {
            "revision": f"r{chance.randrange(4)}",
            "parallelism": chance.randrange(1, 4),
            "image": {"height": size, "width": size},
        },
    )


def last_edit(box: Sandbox) -> None:
    """What counts."""
    box.edit("LeptonDataset", "digits", LAST_DATASET)
    box.edit("LeptonModel", "digits", LAST_MODEL)


def last_end(lab: Lab) -> list[str]:
    """The end state when only the last edit is made."""
    with lab.sandbox("last-edit", forked=True) as box:
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        last_edit(box)
        box.wait_settled()
        until(box.operator.is_idle, "that the operator rests")
        return box.dump()


def heard(box: Sandbox, count: int) -> bool:
    """Whether the API server has heard of the operator so often, or will hear no more of it."""
    rests = box.operator.ask("/readyz")[0] == 200 and box.operator.is_idle()
    return len(box.proxy.calls) >= count or rests


def test_killed_at_random_moments_under_a_stream_of_edits(lab: Lab) -> None:
    end = last_end(lab)

    def run(seed: int) -> None:
        chance = random.Random(seed)
        with lab.sandbox(f"edits-{seed}", forked=True) as box:
            box.operator.start()
            box.create(*chain())
            box.wait_settled()
            for _ in range(EDITS):
                random_edit(box, chance)
                if chance.random() < 0.5:
                    # A start alone makes some forty calls, so that some lives end before they begin to work.
                    wanted = len(box.proxy.calls) + chance.randrange(1, 60)
                    if not box.operator.is_running:
                        box.operator.start(wait=False)
                    until(partial(heard, box, wanted), "calls", 30, poll=0.02)
                    box.operator.kill()
                elif not box.operator.is_running and chance.random() < 0.5:
                    box.operator.start(wait=False)
            last_edit(box)
            if not box.operator.is_running:
                box.operator.start(wait=False)
            box.wait_dump(end)

    side_by_side(SEEDS, run)
