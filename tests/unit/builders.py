"""Objects as the API server holds them, and one `decide` that checks what must hold of every decision."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lepton_operator.actions import Action, Apply, Create, Delete, Plan
from lepton_operator.api import KIND_BY_NAME
from lepton_operator.conditions import timestamp
from lepton_operator.context import Context
from lepton_operator.decide import dataset as decide_dataset
from lepton_operator.decide import model as decide_model
from lepton_operator.decide import training_job as decide_training_job
from lepton_operator.facts import Observed, Refusal, WarningFact
from lepton_workloads.contract.outcome import Outcome, PrepareResult, TrainResult

Obj = dict[str, Any]

NOW = 1_800_000_000.0
CONTEXT = Context(trainer_image="trainer:1", server_image="server:1")
DIGEST = "ab" * 32
KEY = "cd" * 32

DECIDE = {
    "LeptonDataset": decide_dataset.decide,
    "LeptonTrainingJob": decide_training_job.decide,
    "LeptonModel": decide_model.decide,
}
TYPES = {
    "LeptonDataset": ["Ready", "Reconciling", "Stalled"],
    "LeptonTrainingJob": ["Succeeded", "Reconciling", "Stalled"],
    "LeptonModel": ["Ready", "Available", "DriftDetected", "Reconciling", "Stalled"],
}

STARTED = {"state": {"running": {"startedAt": timestamp(NOW)}}, "ready": True}


# -- Lepton objects ----------------------------------------------------------------------------------


def lepton(kind: str, name: str, spec: Mapping[str, Any], **meta: Any) -> Obj:
    """With the schema's defaults, and the status that an object is born with."""
    full = KIND_BY_NAME[kind].spec.model_validate(spec).to_json_dict()
    metadata = {"name": name, "namespace": "team", "uid": f"uid-{name}", "generation": 1} | meta
    return {
        "apiVersion": "lepton.ai/v1alpha1",
        "kind": kind,
        "metadata": metadata,
        "spec": full,
        "status": {"observedGeneration": -1},
    }


def dataset(**spec: Any) -> Obj:
    return lepton("LeptonDataset", "digits", {"source": {"builtin": "digits"}} | spec)


def training_job(**spec: Any) -> Obj:
    return lepton("LeptonTrainingJob", "cnn", {"dataset": {"name": "digits"}} | spec)


def model(**spec: Any) -> Obj:
    return lepton("LeptonModel", "answers", {"source": {"trainingJob": {"name": "cnn"}}} | spec)


def condition(kind: str, status: str, reason: str = "Because", message: str = "so", at: float = NOW) -> Obj:
    return {
        "type": kind,
        "status": status,
        "reason": reason,
        "message": message,
        "lastTransitionTime": timestamp(at),
        "observedGeneration": 1,
    }


def ready_dataset(**status: Any) -> Obj:
    rows = [condition("Ready", "True"), condition("Reconciling", "False"), condition("Stalled", "False")]
    told = {"observedGeneration": 1, "digest": KEY, "claimName": "lepton-store", "conditions": rows}
    return dataset() | {"status": told | status}


def succeeded_job(digest: str = DIGEST, uid: str = "uid-cnn", accuracy: float = 0.97) -> Obj:
    obj = training_job()
    obj["metadata"]["uid"] = uid
    result = {"digest": digest, "claimName": "lepton-store", "path": f"models/{digest}"}
    rows = [condition("Succeeded", "True")]
    obj["status"] = {"observedGeneration": 1, "accuracy": accuracy, "result": result, "conditions": rows}
    return obj


# -- Jobs and pods -----------------------------------------------------------------------------------


def job_from(
    manifest: Mapping[str, Any], *conditions: str, uid: str = "", at: float = NOW, **extra: Any
) -> Obj:
    """A Job as it was created; each condition is `Type` or `Type:Reason` and True since `at`."""
    rows = []
    for text in conditions:
        kind, _, reason = text.partition(":")
        rows.append({"type": kind, "status": "True", "reason": reason, "lastTransitionTime": timestamp(at)})
    name = manifest["metadata"]["name"]
    created = {"uid": uid or f"uid-{name}", "creationTimestamp": timestamp(NOW - 60)} | extra
    return {**manifest, "metadata": {**manifest["metadata"], **created}, "status": {"conditions": rows}}


def pod(job: Obj, index: int = 0, *, phase: str = "Running", name: str = "", **parts: Any) -> Obj:
    """A pod; parts: `containers`, `init`, `conditions`, `deleting`, `reason`, `message`, `ip`, `spec`."""
    job_name = job["metadata"]["name"]
    name = name or f"{job_name}-{index}-abcde"
    metadata: Obj = {
        "name": name,
        "uid": f"uid-{name}",
        "labels": {"batch.kubernetes.io/job-name": job_name},
        "annotations": {"batch.kubernetes.io/job-completion-index": str(index)},
        "ownerReferences": [{"kind": "Job", "uid": job["metadata"]["uid"]}],
    }
    if parts.get("deleting"):
        metadata["deletionTimestamp"] = timestamp(NOW)
    template = job["spec"]["template"]["spec"]
    container = template["containers"][0]["name"]
    status: Obj = {"phase": phase, "podIP": parts.get("ip", f"10.0.0.{index + 1}")}
    status["containerStatuses"] = [
        {"name": container, "image": "x:1"} | row for row in parts.get("containers", ())
    ]
    status["initContainerStatuses"] = [{"name": "fetch"} | row for row in parts.get("init", ())]
    status["conditions"] = list(parts.get("conditions", ()))
    status |= {key: parts[key] for key in ("reason", "message") if key in parts}
    return {"metadata": metadata, "spec": {**template, **parts.get("spec", {})}, "status": status}


def waits(reason: str, message: str = "", **extra: Any) -> Obj:
    return {"state": {"waiting": {"reason": reason, "message": message}}, "ready": False} | extra


def ended(code: int, message: str = "", reason: str = "Error", at: float = NOW) -> Obj:
    end = {"exitCode": code, "message": message, "reason": reason, "finishedAt": timestamp(at)}
    return {"state": {"terminated": end}, "ready": False}


def is_ready() -> Obj:
    return {"type": "Ready", "status": "True"}


def disrupted(reason: str = "EvictionByEvictionAPI", message: str = "evicted for a drain") -> Obj:
    return {"type": "DisruptionTarget", "status": "True", "reason": reason, "message": message}


def unschedulable(message: str = "0/2 nodes are available: 2 Insufficient cpu.") -> Obj:
    return {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}


def warning(kind: str, name: str, reason: str, message: str) -> WarningFact:
    return WarningFact(kind, name, reason, message, NOW)


def refused(reason: str = "QuotaExceeded", kind: str = "Job") -> Refusal:
    return Refusal(kind, "child", reason, "exceeded quota: small")


def failed_text(reason: str, message: str = "what went wrong", terminal: bool = False) -> str:
    return Outcome(reason=reason, message=message, terminal=terminal).to_json()


def prepared_text(**extra: Any) -> str:
    figures = {
        "samples": 1797,
        "classes": 10,
        "train": 1437,
        "validation": 180,
        "test": 180,
        "bytes": 5_000_000,
    }
    rest = {"key": KEY, "labels": list("0123456789"), "invalid_files": 0, "reused": False}
    size = {"height": 32, "width": 32, "channels": 3}
    return Outcome(prepare=PrepareResult(**(figures | rest | size | extra))).to_json()


def trained_text(**extra: Any) -> str:
    good = {"test_accuracy": 0.97, "test_loss": 0.1, "train_accuracy": 0.99, "train_loss": 0.05}
    rest = {"epochs": 5, "seconds": 31.4159, "parameters": 1000, "bytes": 9000, "code_version": "1"}
    names = {"digest": DIGEST, "weights_digest": DIGEST, "tensorflow": "2.21.0"}
    return Outcome(train=TrainResult(**(good | rest | names | extra))).to_json()


# -- decisions ---------------------------------------------------------------------------------------


def observe(obj: Obj, *children: Obj, **facts: Any) -> Observed:
    """`children` by kind and name, pods among them."""
    pods = tuple(child for child in children if "kind" not in child)
    held = {(child["kind"], child["metadata"]["name"]): child for child in children if "kind" in child}
    return Observed(object=obj, children=held, pods=pods, **facts)


def written(observed: Observed, plan: Plan) -> Observed:
    """The same world after the status was written."""
    return replace(observed, object={**observed.object, "status": plan.status})


def decide(observed: Observed, now: float = NOW, context: Context = CONTEXT) -> Plan:
    """Decides, and checks what holds of all decisions."""
    run = DECIDE[observed.object["kind"]]
    plan = run(observed, context, now)
    check_status(observed.object, plan.status)
    after = written(observed, plan)
    again = run(after, context, now)
    assert again.status == plan.status, "deciding again on the written status gives the same status"
    assert again.events == (), "deciding again tells nothing new"
    assert not again.urgent
    later = run(after, context, now + 7)
    check_transition_times(plan.status, later.status)
    assert plan.requeue_after is None or plan.requeue_after > 0
    return plan


def check_status(obj: Obj, status: Obj) -> None:
    """Complete, valid, without None or NaN, and read by kstatus as it is meant."""
    kind = obj["kind"]
    assert [row["type"] for row in status["conditions"]] == TYPES[kind]
    assert status["observedGeneration"] == obj["metadata"]["generation"]
    assert all(row["observedGeneration"] == obj["metadata"]["generation"] for row in status["conditions"])
    assert all(row["reason"] for row in status["conditions"])
    check_clean(status)
    KIND_BY_NAME[kind].status.model_validate(status)
    rows = states(status)
    assert len({rows["Reconciling"], rows["Stalled"]} - {"False"}) <= 1, "never both"
    done = rows[TYPES[kind][0]] == "True"
    assert done == (rows["Reconciling"] == rows["Stalled"] == "False")
    wanted = "Current" if done else "Failed" if rows["Stalled"] == "True" else "InProgress"
    assert kstatus({**obj, "status": status}) == wanted


def check_clean(value: Any) -> None:
    assert value is not None
    if isinstance(value, float):
        assert math.isfinite(value)
    if isinstance(value, dict):
        for item in value.values():
            check_clean(item)
    if isinstance(value, (list, tuple)):
        for item in value:
            check_clean(item)


def check_transition_times(before: Obj, after: Obj) -> None:
    for old, new in zip(before["conditions"], after["conditions"], strict=True):
        same_time = old["lastTransitionTime"] == new["lastTransitionTime"]
        assert same_time == (old["status"] == new["status"])


def kstatus(obj: Obj) -> str:
    """As cli-utils computes it for a custom resource: generation, Reconciling, Stalled, then Ready."""
    status = obj.get("status") or {}
    rows = states(status)
    if status.get("observedGeneration", obj["metadata"]["generation"]) != obj["metadata"]["generation"]:
        return "InProgress"
    if rows.get("Reconciling") == "True":
        return "InProgress"
    if rows.get("Stalled") == "True":
        return "Failed"
    if rows.get("Ready", "True") != "True":
        return "InProgress"
    return "Current"


def states(status: Mapping[str, Any]) -> dict[str, str]:
    return {row["type"]: row["status"] for row in status.get("conditions", ())}


def row(plan: Plan, kind: str = "") -> Obj:
    """A condition of a plan; the main one by default."""
    rows = plan.status["conditions"]
    return next((one for one in rows if one["type"] == kind), rows[0])


def stands(plan: Plan) -> tuple[str, str]:
    """(what kstatus says, reason of the main condition)."""
    rows = states(plan.status)
    word = (
        "Reconciling" if rows["Reconciling"] == "True" else "Stalled" if rows["Stalled"] == "True" else "Done"
    )
    return word, row(plan)["reason"]


def made(plan: Plan, kind: str = "Job") -> list[str]:
    return [
        action.manifest["metadata"]["name"]
        for action in plan.actions
        if not isinstance(action, Delete) and action.manifest["kind"] == kind and makes(action)
    ]


def makes(action: Action) -> bool:
    """Not what only changes a child that is there."""
    return not isinstance(action, Apply) or action.create


def deleted(plan: Plan) -> list[str]:
    return [action.name for action in plan.actions if isinstance(action, Delete)]


def manifest_of(plan: Plan, kind: str = "Job") -> Obj:
    actions: Sequence[Any] = plan.actions
    found = (action.manifest for action in actions if not isinstance(action, Delete) and makes(action))
    return next(dict(manifest) for manifest in found if manifest["kind"] == kind)


def kept_claims(plan: Plan) -> list[str]:
    creates = [action for action in plan.actions if isinstance(action, Create) and action.keep]
    return [action.manifest["metadata"]["name"] for action in creates]
