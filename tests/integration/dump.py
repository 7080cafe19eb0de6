"""The end state of a namespace in a form that is equal whenever a user would call it equal.

Without uids, versions, times, addresses and whatever is derived from them; names that Kubernetes makes up
are replaced by where they come from.
"""

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

from lepton_operator.desired.serving import TEMPLATE_ANNOTATION
from tests.integration.kube import Kube, Object, collection

LEPTON = ("LeptonDataset", "LeptonTrainingJob", "LeptonModel")
KINDS = {
    **dict.fromkeys(LEPTON, "lepton.ai/v1alpha1"),
    "Job": "batch/v1",
    "Deployment": "apps/v1",
    "ReplicaSet": "apps/v1",
    "Service": "v1",
    "PodDisruptionBudget": "policy/v1",
    "PersistentVolumeClaim": "v1",
    "Pod": "v1",
}

VOLATILE_META = ("uid", "resourceVersion", "creationTimestamp", "managedFields", "generation", "generateName")
REVISION = "deployment.kubernetes.io/revision"
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")
UUID = re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


def lepton_objects(kube: Kube, namespace: str) -> list[Object]:
    """All Lepton objects."""
    return [obj for kind in LEPTON for obj in of_kind(kube, namespace, kind)]


def of_kind(kube: Kube, namespace: str, kind: str) -> list[Object]:
    """Objects of a kind; items of lists lack kind and apiVersion."""
    version = KINDS[kind]
    items = kube.items(collection(version, kind, namespace))
    return [{"apiVersion": version, "kind": kind, **item} for item in items]


def dump(kube: Kube, namespace: str) -> list[str]:
    """One line of canonical JSON an object, sorted."""
    objects = [obj for kind in KINDS for obj in of_kind(kube, namespace, kind)]
    return canonical(objects, namespace)


def canonical(objects: Iterable[Object], namespace: str) -> list[str]:
    """One line of canonical JSON an object, sorted."""
    kept = [obj for obj in objects if not _is_history(obj)]
    words = {namespace: "NAMESPACE"}
    for obj in kept:
        words |= _made_up(obj)
    # Longest first: a name may be the beginning of another.
    pattern = re.compile("|".join(map(re.escape, sorted(words, key=len, reverse=True))))
    lines = []
    for obj in kept:
        text = json.dumps(_trimmed(obj), sort_keys=True)
        text = pattern.sub(lambda found: words[found.group()], text)
        for volatile, word in ((TIME, "TIME"), (UUID, "UID"), (ADDRESS, "ADDRESS")):
            text = volatile.sub(word, text)
        lines.append(text)
    return sorted(lines)


def _is_history(obj: Object) -> bool:
    """An earlier ReplicaSet: how many there are depends on which edits were seen one by one."""
    return obj["kind"] == "ReplicaSet" and not obj["spec"].get("replicas") and not obj["status"]["replicas"]


def _made_up(obj: Object) -> dict[str, str]:
    """Words that Kubernetes made up -> what they stand for."""
    meta, kind = obj["metadata"], obj["kind"]
    name = meta["name"]
    words = {}
    if kind in ("Pod", "ReplicaSet"):
        template = meta.get("labels", {}).get("pod-template-hash")
        if template:
            words[template] = "TEMPLATE"
            name = name.replace(template, "TEMPLATE")
        if "generateName" in meta:
            suffix = meta["name"].removeprefix(meta["generateName"])
            name = name.removesuffix(suffix) + "SUFFIX"
            words[meta["name"]] = name
    words[meta["uid"]] = f"UID of {kind} {name}"
    if template := meta.get("annotations", {}).get(TEMPLATE_ANNOTATION):
        words[template] = "TEMPLATE"
    return words


def _trimmed(obj: Object) -> Object:
    meta = {key: value for key, value in obj["metadata"].items() if key not in VOLATILE_META}
    notes = {key: value for key, value in meta.get("annotations", {}).items() if key != REVISION}
    meta["annotations"] = notes
    trimmed = obj | {"metadata": meta}
    if "status" in obj:
        generation = obj["metadata"].get("generation")
        trimmed["status"] = _with_generations(obj["status"], generation)
    return trimmed


def _with_generations(value: Any, generation: int | None) -> Any:
    """observedGeneration as whether it is the current one."""
    if isinstance(value, dict):
        return {
            key: ("current" if held == generation else "old")
            if key == "observedGeneration"
            else _with_generations(held, generation)
            for key, held in value.items()
        }
    if isinstance(value, list):
        return [_with_generations(item, generation) for item in value]
    return value


def differences(wanted: list[str], found: list[str]) -> str:
    """A readable comparison of two dumps; empty when they are equal."""
    if wanted == found:
        return ""

    def pretty(lines: list[str]) -> list[str]:
        return json.dumps([json.loads(line) for line in lines], indent=1, sort_keys=True).splitlines()

    return "\n".join(difflib.unified_diff(pretty(wanted), pretty(found), "wanted", "found", n=4, lineterm=""))
