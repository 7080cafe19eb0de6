"""A, then B, then A again is A: nothing of B stays, whatever B was; and the same manifest again changes nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.integration import dump, plays
from tests.integration.explained import unexplained
from tests.integration.fields import Change, changes, differing, mutable_fields
from tests.integration.furniture import furnish, kubectl, refusal
from tests.integration.generated import SCHEMAS
from tests.integration.kube import Kube, Object, until
from tests.integration.objects import manifest
from tests.integration.plays import Pod
from tests.integration.sandbox import Lab, Sandbox

AUTOSCALER = "HorizontalPodAutoscaler"
HISTORY = "deployment.kubernetes.io/revision-history"
"""On a ReplicaSet that was current before: which revisions it was."""


@pytest.fixture(scope="module")
def all_changes(kube: Kube) -> dict[str, list[Change]]:
    """Changes of every field, by kind."""
    return {
        kind: changes(kind, lambda kind, spec: not refusal(kube, manifest(kind, "made-up", spec)))
        for kind in SCHEMAS
    }


@pytest.mark.parametrize("kind", sorted(SCHEMAS))
def test_every_field_is_changed_at_least_once(all_changes: dict[str, list[Change]], kind: str) -> None:
    changed = set().union(*(differing(kind, change) for change in all_changes[kind]))
    assert set(mutable_fields(kind)) - changed == set()


def everything(box: Sandbox) -> list[Object]:
    """All objects that somebody made on purpose, autoscalers too."""
    version = "autoscaling/v2"
    path = f"/apis/{version}/namespaces/{box.namespace}/horizontalpodautoscalers"
    scalers = [{"apiVersion": version, "kind": AUTOSCALER, **item} for item in box.kube.items(path)]
    return [*scalers, *(obj for kind in dump.KINDS for obj in box.all(kind))]


def state(box: Sandbox) -> list[str]:
    """The canonical state; what an autoscaler measures is not Lepton's."""
    objects = everything(box)
    for obj in objects:
        if obj["kind"] == AUTOSCALER:
            del obj["status"]
        obj["metadata"].get("annotations", {}).pop(HISTORY, None)
        if obj["kind"] == "Deployment":
            # Its conditions are in the order in which they came, and may tell of the rollout before.
            rows = obj["status"].get("conditions", ())
            obj["status"]["conditions"] = sorted((row["type"], row["status"], row["reason"]) for row in rows)
    return dump.canonical(objects, box.namespace)


def versions(box: Sandbox) -> dict[str, str]:
    """The resourceVersion of every object, what its autoscaler measures aside."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["metadata"]["resourceVersion"]
        for obj in everything(box)
        if obj["kind"] != AUTOSCALER
    }


def generations(box: Sandbox) -> dict[str, int]:
    """The generation of every Lepton object."""
    return {
        f"{obj['kind']}/{obj['metadata']['name']}": obj["metadata"]["generation"]
        for obj in box.lepton_objects()
    }


def at_rest(box: Sandbox) -> list[str]:
    """The canonical state once nothing moves any more."""
    last: list[list[str]] = [[]]

    def rests() -> bool:
        before, last[0] = last[0], state(box)
        return before == last[0] and box.operator.is_idle()

    until(rests, lambda: f"that nothing moves\n{box.report()}", 60, poll=1)
    return last[0]


def explained(box: Sandbox) -> None:
    """Every spec is seen and answered; pods are still on their way."""
    until(
        lambda: not [text for obj in box.lepton_objects() for text in unexplained(obj)],
        lambda: f"an explanation of each\n{box.report()}",
    )


def endless(pod: Pod) -> bool:
    """Whether a pod is of the training job that doesn't come to an end."""
    return plays.label(pod, plays.NAME_LABEL).endswith("endless")


async def trains_unless_endless(pod: Pod) -> None:
    """Trains; the pods of one job never end."""
    await (plays.run(pod) if endless(pod) else plays.trains(pod))


def never_suspended(change: Change) -> Change:
    """Without a pause: that ends an attempt, and the next one has another number."""
    return replace(change, after=change.after | {"suspend": False})


def test_back_at_a_nothing_is_left_of_b(
    lab: Lab, all_changes: dict[str, list[Change]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    cases = {
        (kind, f"{kind[6:].lower()}-{number}"): change
        for kind, found in all_changes.items()
        for number, change in enumerate(found)
    }
    cases["LeptonTrainingJob", "endless"] = never_suspended(all_changes["LeptonTrainingJob"][0])
    before = [manifest(kind, name, change.before) for (kind, name), change in cases.items()]
    after = [manifest(kind, name, change.after) for (kind, name), change in cases.items()]
    with lab.sandbox("there-and-back") as box:
        box.script.training = trains_unless_endless
        furnish(box)

        def put(objects: list[Object]) -> None:
            for obj in objects:
                box.kube.apply(obj, box.namespace)

        put(before)
        until(lambda: all(is_done(obj) for obj in box.lepton_objects()), box.report, 120)
        first = at_rest(box)
        for wait in (at_rest, explained):
            put(after)
            wait(box)
            put(before)
            until(
                lambda: state(box) == first,
                lambda: f"the state before\n{dump.differences(first, state(box))[:8000]}\n{box.report()}",
                120,
                poll=1,
            )
        at_rest(box)
        file = tmp_path_factory.mktemp("manifests") / "all.json"
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "List", "items": before}))
        for flags in ((), ("--server-side", "--force-conflicts")):
            check_second_apply(box, [*flags, "--namespace", box.namespace], file)


def is_done(obj: Object) -> bool:
    """Ready or Succeeded, or the training that doesn't end is under way."""
    rows = {row["type"]: row for row in (obj.get("status") or {}).get("conditions") or ()}
    main = rows.get("Succeeded" if obj["kind"] == "LeptonTrainingJob" else "Ready", {})
    return main.get("status") == "True" or main.get("reason") == "Training"


def check_second_apply(box: Sandbox, arguments: list[str], file: Path) -> None:
    """kubectl apply twice: the first may note who applies, the second writes nothing at all."""
    known = generations(box)
    kubectl("apply", *arguments, "-f", str(file))
    at_rest(box)
    assert generations(box) == known
    held, calls = versions(box), len(box.proxy.writes())
    kubectl("apply", *arguments, "-f", str(file))
    until(box.operator.is_idle, "that the operator rests")
    assert versions(box) == held
    assert [str(call) for call in box.proxy.writes()[calls:]] == []
