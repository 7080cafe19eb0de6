"""The main job: apply three manifests, watch them come true."""

import json
from typing import Any

from demo.display import Deadline, DemoError, Display, bar
from demo.kubectl import Kubectl
from demo.setup import NAMESPACE, ROOT

EXAMPLE = ROOT / "examples" / "01-digits"
RESOURCES = "leptondatasets,leptontrainingjobs,leptonmodels"
DEADLINE_SECONDS = 900
MAIN_CONDITION = {"LeptonDataset": "Ready", "LeptonTrainingJob": "Succeeded", "LeptonModel": "Ready"}
STAGES = {"LeptonDataset": "1 preparing data", "LeptonTrainingJob": "2 training", "LeptonModel": "3 serving"}


def apply(display: Display, kubectl: Kubectl) -> None:
    """The namespace, then the manifests as they stand in the example."""
    display.title(f"Applying the manifests of {EXAMPLE.relative_to(ROOT)} in namespace {NAMESPACE}")
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}},
    }
    kubectl.run("apply", "-f", "-", stdin=json.dumps(namespace))
    for line in kubectl.run("apply", "-n", NAMESPACE, "-f", str(EXAMPLE)).splitlines():
        display.say(f"   {line}")


def follow(display: Display, kubectl: Kubectl) -> None:
    """Shows each stage until all conditions hold; a stalled one ends the demo with its reason."""
    deadline = Deadline(DEADLINE_SECONDS, "The main job")
    finished: set[str] = set()
    while True:
        items = kubectl.json("get", RESOURCES, "-n", NAMESPACE)["items"]
        by_kind = {item["kind"]: item for item in items}
        lines = {}
        for kind, stage in STAGES.items():
            item = by_kind.get(kind, {})
            if holds(item, MAIN_CONDITION[kind]):
                if kind not in finished:
                    display.say(f"   {stage:<22} done: {message(item, MAIN_CONDITION[kind])}")
                    finished.add(kind)
            elif holds(item, "Stalled"):
                raise DemoError(f"{kind} is stalled: {message(item, 'Stalled')}")
            else:
                lines[stage] = progress(item)
        if finished == set(STAGES):
            return
        display.update(lines)
        deadline.tick(str(lines))


def condition(item: dict[str, Any], kind: str) -> dict[str, Any]:
    """The item's condition of that type, for the present generation; else an empty one."""
    for row in item.get("status", {}).get("conditions", ()):
        if row["type"] == kind and row["observedGeneration"] == item["metadata"]["generation"]:
            return dict(row)
    return {}


def holds(item: dict[str, Any], kind: str) -> bool:
    """True when the condition is True."""
    return condition(item, kind).get("status") == "True"


def message(item: dict[str, Any], kind: str) -> str:
    """reason: message."""
    row = condition(item, kind)
    return f"{row.get('reason')}: {row.get('message')}"


def progress(item: dict[str, Any]) -> str:
    """A bar where the status counts something, and the reason."""
    status = item.get("status", {})
    if not item or not status.get("conditions"):
        return "not seen by the operator yet"
    row = condition(item, MAIN_CONDITION[item["kind"]])
    now = status.get("progress", {})
    text = f"{row.get('reason')}: {row.get('message')}"
    if item["kind"] == "LeptonDataset" and now.get("total"):
        return f"{bar(now['done'], now['total'])} {now['done']}/{now['total']} pictures"
    if item["kind"] == "LeptonTrainingJob" and now.get("epoch"):
        epoch, epochs = (int(part) for part in now["epoch"].split("/"))
        steps = now.get("steps") or 0
        part = now.get("step", 0) / steps if steps and now["phase"] == "Training" else 0
        figures = f"loss {status.get('loss', '?')}, accuracy {status.get('accuracy', '?')}"
        return f"{bar(min(epoch + part, epochs), epochs)} {now['phase']}, epoch {now['epoch']}, {figures}"
    return text
