"""One attempt of a training: running, completed, failed, counted, backed off from."""

import re
from collections.abc import Callable
from typing import Any

from lepton_operator.actions import Action, Delete
from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.conditions import State, Verdict, seconds, timestamp
from lepton_operator.context import Context
from lepton_operator.decide.common import (
    Draft,
    ensure_store,
    kept,
    pod_index,
    pods_of_job,
    pulls_of,
    reports_of,
    user_claims,
    waiting,
)
from lepton_operator.desired.gang import CONTAINER, DATASET_ANNOTATION, attempt_name
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import (
    Fault,
    claim_fault,
    creation_fault,
    is_disrupted,
    outcome_of,
    refusal_fault,
    worst_fault,
)
from lepton_workloads.contract.outcome import Report, TrainResult

HISTORY = ("workers", "attempt", "failures", "failedAttempt", "disruptions", "datasetDigest", "startTime")
PROGRESS = ("progress", "loss", "accuracy")
BACKOFF_NOTE = "(backoffLimit)"
MAX_DISRUPTIONS = 50
FIRST_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 360.0

MakeAttempt = Callable[[Draft, int, float], Draft]


def current_number(observed: Observed, owner: Owner) -> int:
    """max(status, Jobs seen): a status that was lost or is late never makes a number used twice."""
    seen = [int((observed.object.get("status") or {}).get("attempt", 0))]
    pattern = re.compile(re.escape(attempt_name(owner, 0)[:-1]) + r"(\d+)$")
    for kind, name in observed.children:
        if kind == "Job" and (match := pattern.match(name)):
            seen.append(int(match.group(1)))
    return max(seen)


def running(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, job: Json, number: int, context: Context, now: float
) -> Draft:
    """The attempt's pods are starting or at work."""
    obj = observed.object
    name = job["metadata"]["name"]
    pods = pods_of_job(observed.pods, name)
    fields = kept(obj, HISTORY) | {"attempt": number, "workers": spec.workers}
    fields.setdefault("datasetDigest", job["metadata"].get("annotations", {}).get(DATASET_ANNOTATION))
    fields.setdefault("startTime", job["metadata"].get("creationTimestamp") or timestamp(now))
    if (obj.get("status") or {}).get("attempt") == number:
        fields |= kept(obj, PROGRESS)
    draft = Draft(
        Verdict(State.PROGRESSING, "Starting", f"attempt {number}: {spec.workers} worker(s) start"),
        fields,
        ensure_store(observed, spec.storage.claim_name, context),
    )
    at_work = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    if len(at_work) == spec.workers:
        draft.verdict = Verdict(State.PROGRESSING, "Training", f"attempt {number}: the network is being trained")
    if fault := _fault(observed, spec, name, pods):
        draft.verdict = waiting(fault)
    draft.pulls = pulls_of(at_work)
    draft.requeue_after = context.report_interval_seconds if at_work else None
    reports = reports_of(observed, at_work, owner.uid, number)
    if 0 in reports:
        draft.fields |= _progress(reports[0], spec)
    return draft


def _fault(observed: Observed, spec: TrainingJobSpec, job: str, pods: list[Json]) -> Fault | None:
    return (
        refusal_fault(observed.refusals)
        or claim_fault(observed.claims, user_claims(spec.storage.claim_name))
        or worst_fault(pods, observed.warnings)
        or (creation_fault("Job", job, observed.warnings) if len(pods) < spec.workers else None)
    )


def _progress(report: Report, spec: TrainingJobSpec) -> dict[str, Any]:
    progress: dict[str, Any] = {
        "phase": report.phase,
        "epoch": f"{report.epoch}/{report.epochs or spec.training.epochs}",
        "step": report.done,
        "steps": report.total,
        "imagesPerSecond": _rounded(report.images_per_second, 1),
        "etaSeconds": None if report.eta_seconds is None else int(report.eta_seconds),
    }
    if report.history:
        progress["validationLoss"] = _rounded(report.history[-1].validation_loss)
        progress["validationAccuracy"] = _rounded(report.history[-1].validation_accuracy)
    return {
        "progress": {name: value for name, value in progress.items() if value is not None},
        "loss": _rounded(report.loss),
        "accuracy": _rounded(report.accuracy),
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def completed(
    observed: Observed, spec: TrainingJobSpec, job: Json, number: int, context: Context, now: float
) -> Draft:
    """All workers ended well: the chief's result, or another attempt that finds the artifact and reports it."""
    name = job["metadata"]["name"]
    fields = kept(observed.object, HISTORY) | {"attempt": number, "workers": spec.workers}
    fields.setdefault("datasetDigest", job["metadata"].get("annotations", {}).get(DATASET_ANNOTATION))
    fields.setdefault("startTime", job["metadata"].get("creationTimestamp") or timestamp(now))
    for pod in pods_of_job(observed.pods, name):
        outcome = outcome_of(pod, CONTAINER)
        if pod_index(pod) == 0 and outcome and outcome.train:
            fields |= _result_fields(outcome.train, spec, fields["datasetDigest"], context)
            fields["completionTime"] = job.get("status", {}).get("completionTime") or timestamp(now)
            text = f"version {outcome.train.digest[:12]}, accuracy {outcome.train.test_accuracy:.4f} on the test split"
            return Draft(Verdict(State.DONE, "Succeeded", text), fields)
    # Counted as a disruption, so that the next attempt follows; it finds the artifact and does not train.
    if fields.get("failedAttempt", 0) < number:
        fields |= {"failedAttempt": number, "disruptions": fields.get("disruptions", 0) + 1}
    text = "the result was lost with its pod and is read again from the artifact"
    return Draft(Verdict(State.PROGRESSING, "Restarting", text), fields, [_delete(job)])


def _result_fields(
    result: TrainResult, spec: TrainingJobSpec, dataset_key: str, context: Context
) -> dict[str, Any]:
    metrics = {
        "testAccuracy": result.test_accuracy,
        "testLoss": result.test_loss,
        "validationAccuracy": result.validation_accuracy,
        "validationLoss": result.validation_loss,
        "trainAccuracy": result.train_accuracy,
        "trainLoss": result.train_loss,
        "epochs": result.epochs,
        "seconds": round(result.seconds, 1),
    }
    return {
        "loss": _rounded(result.test_loss),
        "accuracy": _rounded(result.test_accuracy),
        "progress": {"phase": "Done", "epoch": f"{result.epochs}/{spec.training.epochs}"},
        "metrics": {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in metrics.items()
            if value is not None
        },
        "result": {
            "digest": result.digest,
            "weightsDigest": result.weights_digest,
            "claimName": spec.storage.claim_name,
            "path": f"models/{result.digest}",
            "bytes": result.bytes,
            "parameters": result.parameters,
        },
        "lineage": {
            "dataset": spec.dataset.name,
            "datasetDigest": dataset_key,
            "image": context.trainer_image,
            "codeVersion": result.code_version,
            "tensorflow": result.tensorflow,
            "seed": spec.training.seed,
        },
    }


def count_failure(
    observed: Observed, spec: TrainingJobSpec, draft: Draft, pods: list[Json], failed: Json, number: int, now: float
) -> None:
    """Counts the end of an attempt once, and says what ended it."""
    fault = worst_fault(pods, observed.warnings) or Fault("ContainerFailed", failed.get("message", "the Job failed"))
    broken = [pod for pod in pods if pod.get("status", {}).get("phase") == "Failed"]
    draft.fields["failedAttempt"] = number
    if broken and any(is_disrupted(pod) for pod in broken):
        draft.fields["disruptions"] = draft.fields.get("disruptions", 0) + 1
        draft.verdict = Verdict(State.PROGRESSING, fault.reason, f"attempt {number}: {fault.message}; it starts again")
        if draft.fields["disruptions"] >= MAX_DISRUPTIONS:
            draft.verdict = Verdict(State.FAILED, fault.reason, f"disrupted {MAX_DISRUPTIONS} times: {fault.message}")
    elif fault.terminal:
        draft.verdict = Verdict(State.FAILED, fault.reason, fault.message)
    else:
        failures = draft.fields.get("failures", 0) + 1
        draft.fields["failures"] = failures
        text = f"attempt {number}: {fault.message}"
        if failures > spec.backoff_limit:
            text = f"{text}; {failures} failed attempts, {spec.backoff_limit} are allowed {BACKOFF_NOTE}"
            draft.verdict = Verdict(State.FAILED, _final_reason(fault), text)
        else:
            draft.verdict = Verdict(State.PROGRESSING, fault.reason, f"{text}; it starts again")
    draft.requeue_after = 0.1


def _final_reason(fault: Fault) -> str:
    """A cause with a name of its own says more than that the limit was reached."""
    return "BackoffLimitExceeded" if fault.reason in ("ContainerFailed", "CrashLoop") else fault.reason


def back_off(
    observed: Observed, spec: TrainingJobSpec, draft: Draft, number: int, make: MakeAttempt, now: float
) -> Draft:
    """The attempt was counted: wait, then make the next one."""
    fields = draft.fields
    ends = fields.get("failures", 0) + fields.get("disruptions", 0)
    wait = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** max(0, ends - 1))
    left = _last_change(observed) + wait - now
    rows = {row["type"]: row for row in observed.object["status"].get("conditions", ())}
    if left > 0:
        said = rows.get("Succeeded", {})
        draft.verdict = Verdict(State.PROGRESSING, said.get("reason", "Restarting"), said.get("message", ""))
        draft.requeue_after = left
        return draft
    draft.verdict = Verdict(State.PROGRESSING, "Restarting", f"attempt {number + 1} starts")
    return make(draft, number + 1, now)


def _last_change(observed: Observed) -> float:
    """When the newest Job ended; 0 when there is none left (its number was counted long ago)."""
    times = [
        seconds(condition["lastTransitionTime"])
        for (kind, _), job in observed.children.items()
        if kind == "Job"
        for condition in job.get("status", {}).get("conditions") or ()
        if condition["type"] in ("Failed", "Complete") and condition["status"] == "True"
    ]
    return max(times, default=0.0)


def stop(observed: Observed, owner: Owner, number: int) -> list[Action]:
    """Ends the running attempt."""
    job = observed.children.get(("Job", attempt_name(owner, number)))
    return [_delete(job)] if job else []


def _delete(job: Json) -> Delete:
    return Delete("Job", job["metadata"]["name"], job["metadata"]["uid"])
