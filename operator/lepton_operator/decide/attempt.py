"""One attempt of a training: running, completed, failed, counted, backed off from."""

import re
from dataclasses import dataclass
from math import ceil
from typing import Any

from lepton_operator.actions import Action, Apply, Delete
from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.conditions import SUCCEEDED, State, Verdict, conditions_by_type, seconds, timestamp
from lepton_operator.context import Context
from lepton_operator.decide.common import (
    Draft,
    ensure_store,
    has_ended,
    image_was_replaced,
    is_at_work,
    job_condition,
    kept,
    pod_index,
    pods_of_job,
    pulls_of,
    reports_of,
    soonest,
    template_claims,
    unreadable_result,
    user_claims,
    waiting,
)
from lepton_operator.decide.judgement import OVER_FOLDS, judge
from lepton_operator.desired.gang import (
    CLAIM_ANNOTATION,
    DATASET_ANNOTATION,
    WARM_START_ANNOTATION,
    attempt_labels,
    attempt_name,
    gang_service,
    main_container,
    main_image,
    trainer_image,
)
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import (
    EVICTED,
    NODE_LOST,
    Fault,
    claim_fault,
    creation_fault,
    is_disrupted,
    look_again,
    outcome_of,
    refusal_fault,
    worst_fault,
)
from lepton_workloads.contract.outcome import Report, TrainResult

HISTORY = (
    "workers",
    "attempt",
    "failures",
    "failedAttempt",
    "disruptions",
    "disruptedAttempt",
    "datasetDigest",
    "datasetClaimName",
    "warmStartDigest",
    "pausedSince",
    "startTime",
    "nextAttemptTime",
)
PINNED = {
    "datasetDigest": DATASET_ANNOTATION,
    "datasetClaimName": CLAIM_ANNOTATION,
    "warmStartDigest": WARM_START_ANNOTATION,
}
"""Fields of the status that each attempt's Job knows as well."""
PROGRESS = ("progress", "loss", "accuracy")
BACKOFF_NOTE = "(backoffLimit)"
OUT_OF_TRIES = "BackoffLimitExceeded"
"""Reason of a Job of which a pod failed."""
MAX_DISRUPTIONS = 50
SLOWEST_PROGRESS_SECONDS = 60.0
"""Figures of a long epoch are written so often."""
FIRST_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 360.0
LAG_SECONDS = 5.0
"""How long a Job that has failed waits for the end of its pods to be seen."""


@dataclass(frozen=True, slots=True)
class Try:
    """One attempt, of the training or of a fold, and where the status counts it."""

    name: str
    """In words: `attempt 2`."""
    number: int
    counted: dict[str, Any]
    """Part of the status that holds its `failedAttempt`."""


@dataclass(frozen=True, slots=True)
class End:
    """What ended an attempt."""

    fault: Fault
    disrupted: bool = False


def current_number(observed: Observed, owner: Owner) -> int:
    """max(status, Jobs seen), 0 before the first: a lost or late status makes no number used twice."""
    told = int((observed.object.get("status") or {}).get("attempt", 0))
    return largest_number(observed, attempt_name(owner, 0), told)


def largest_number(observed: Observed, zeroth: str, told: int) -> int:
    """The same for Jobs of any name that ends in the number; `zeroth` is that of number 0."""
    seen = [told]
    pattern = re.compile(re.escape(zeroth[:-1]) + r"(\d+)$")
    for kind, name in observed.children:
        if kind == "Job" and (match := pattern.match(name)):
            seen.append(int(match.group(1)))
    return max(seen)


def running(
    observed: Observed,
    owner: Owner,
    spec: TrainingJobSpec,
    job: Json,
    number: int,
    context: Context,
    now: float,
) -> Draft:
    """The attempt's pods are starting or at work."""
    obj = observed.object
    name = job["metadata"]["name"]
    pods = pods_of_job(observed.pods, job)
    fields = history(observed, job, number, spec, now)
    fields.pop("nextAttemptTime", None)
    note_disruption(pods, _try(fields, number))
    known = (obj.get("status") or {}).get("attempt") == number
    if known:
        fields |= kept(obj, PROGRESS)
    at_work = [pod for pod in pods if is_at_work(pod)]
    begun = len(at_work) + sum(pod.get("status", {}).get("phase") == "Succeeded" for pod in pods)
    text = f"attempt {number}: {begun} of {spec.workers} workers run"
    draft = Draft(
        Verdict(State.STARTING, "Starting", text),
        fields,
        [
            Apply(attempt_labels(owner, number), create=False),
            Apply(gang_service(owner)),
            *outdated(observed, owner, number),
            *ensure_store(observed, spec.storage.claim_name, context),
        ],
        moved_on=not known,
    )
    if begun >= spec.workers:
        draft.verdict = Verdict(
            State.PROGRESSING, "Training", f"attempt {number}: the network is being trained"
        )
    if fault := _fault(observed, spec, name, pods, now):
        draft.verdict = waiting(fault)
        if image_was_replaced(job, fault, main_image(spec, context)):
            draft.actions += stop(observed, owner, number)
    draft.pulls = pulls_of(at_work)
    report = context.report_interval_seconds if at_work else None
    draft.requeue_after = soonest(report, look_again(pods, now))
    reports = reports_of(observed, at_work, owner.uid, number)
    if 0 in reports:
        draft.fields |= _paced(draft.fields, _progress(reports[0], spec), context, now)
    return draft


def _paced(held: dict[str, Any], told: dict[str, Any], context: Context, now: float) -> dict[str, Any]:
    """New figures after an epoch, or when the old ones are a minute old; never more often than reports are pulled."""
    before, after = held.get("progress", {}), told["progress"]
    since = now - seconds(before["updateTime"]) if "updateTime" in before else SLOWEST_PROGRESS_SECONDS
    moved = any(before.get(name) != after.get(name) for name in ("phase", "epoch"))
    same = {**after, "updateTime": before.get("updateTime")} == before and all(
        held.get(name) == told[name] for name in told if name != "progress"
    )
    if same or since < (context.report_interval_seconds if moved else SLOWEST_PROGRESS_SECONDS):
        return {}
    return told | {"progress": after | {"updateTime": timestamp(now)}}


def history(observed: Observed, job: Json, number: int, spec: TrainingJobSpec, now: float) -> dict[str, Any]:
    """What the status remembers of the attempts; what it lost is read from the Job."""
    fields = kept(observed.object, HISTORY) | {"attempt": number, "workers": spec.workers}
    notes = job["metadata"].get("annotations") or {}
    for name, annotation in PINNED.items():
        if name not in fields and annotation in notes:
            fields[name] = notes[annotation]
    fields.setdefault("startTime", job["metadata"].get("creationTimestamp") or timestamp(now))
    return fields


def outdated(observed: Observed, owner: Owner, number: int) -> list[Action]:
    """Ends earlier attempts that still run or hang on a lost node; ended ones stay for their logs."""
    return [action for earlier in range(1, number) for action in stop(observed, owner, earlier)]


def _fault(observed: Observed, spec: TrainingJobSpec, job: str, pods: list[Json], now: float) -> Fault | None:
    return (
        refusal_fault(observed.refusals)
        or claim_fault(
            observed.claims, user_claims(spec.storage.claim_name, *template_claims(observed.object))
        )
        or worst_fault(pods, observed.warnings, now)
        or (creation_fault("Job", job, observed.warnings, pods) if len(pods) < spec.workers else None)
    )


def _progress(report: Report, spec: TrainingJobSpec) -> dict[str, Any]:
    """Figures that the report doesn't have are left as they are."""
    progress: dict[str, Any] = {
        "phase": report.phase,
        "epoch": f"{report.epoch}/{report.epochs or spec.training.epochs}",
        "step": report.done,
        "steps": report.total,
        "imagesPerSecond": _rounded(report.images_per_second, 1),
        "learningRate": report.learning_rate,
        "etaSeconds": None if report.eta_seconds is None else int(report.eta_seconds),
    }
    if report.history:
        progress["validationLoss"] = _rounded(report.history[-1].validation_loss)
        progress["validationAccuracy"] = _rounded(report.history[-1].validation_accuracy)
    figures = {"loss": _rounded(report.loss), "accuracy": _rounded(report.accuracy)}
    return {
        "progress": {name: value for name, value in progress.items() if value is not None},
        **{name: value for name, value in figures.items() if value is not None},
    }


def _rounded(value: float | None, digits: int = 4) -> float | None:
    return None if value is None else round(value, digits)


def completed(observed: Observed, spec: TrainingJobSpec, job: Json, number: int, now: float) -> Draft:
    """All workers ended well: the chief's result, or another attempt that reads it from the artifact."""
    fields = history(observed, job, number, spec, now)
    pods = pods_of_job(observed.pods, job)
    for pod in pods:
        outcome = outcome_of(pod, main_container(spec))
        if pod_index(pod) == 0 and outcome and outcome.train:
            fields |= _result_fields(outcome.train, spec, fields, job)
            fields["completionTime"] = job.get("status", {}).get("completionTime") or timestamp(now)
            draft = Draft(Verdict(State.DONE, "Succeeded", ""), fields)
            if spec.evaluation.gate is not None and spec.evaluation.gate.metric != OVER_FOLDS:
                judge(draft, spec, outcome.train.gate_value)
            return draft
    draft = Draft(
        Verdict(State.PROGRESSING, "Finishing", f"attempt {number}: its result is being read"), fields
    )
    if not all(has_ended(pod) for pod in pods):
        # The Job was seen before its pods: their end is on its way.
        draft.fields |= kept(observed.object, PROGRESS)
    elif fault := unreadable_result(pods):
        count_failure(draft, spec, _try(draft.fields, number), fault, now)
    else:
        # The next attempt finds the artifact and does not train.
        text = "the result was lost with its pod and is read again from the artifact"
        count_disruption(draft, _try(draft.fields, number), Fault("Restarting", text), now)
    return draft


def _try(fields: dict[str, Any], number: int) -> Try:
    return Try(f"attempt {number}", number, fields)


def count_lost(draft: Draft, number: int, now: float) -> None:
    """Its Job is gone."""
    count_disruption(draft, _try(draft.fields, number), Fault("Restarting", "its Job was deleted"), now)


def _result_fields(
    result: TrainResult, spec: TrainingJobSpec, pinned: dict[str, Any], job: Json
) -> dict[str, Any]:
    warm_start = pinned.get("warmStartDigest")
    metrics: dict[str, float | int | None] = {
        "testAccuracy": result.test_accuracy,
        "testLoss": result.test_loss,
        "validationAccuracy": result.validation_accuracy,
        "validationLoss": result.validation_loss,
        "trainAccuracy": result.train_accuracy,
        "trainLoss": result.train_loss,
        "precision": result.precision,
        "recall": result.recall,
        "f1": result.f1,
        "topKAccuracy": result.top_k_accuracy,
        "expectedCalibrationError": result.expected_calibration_error,
        "int8Accuracy": result.int8_accuracy,
        "floatAccuracy": result.float_accuracy,
        "epochs": result.epochs,
        "bestEpoch": result.best_epoch,
        "stoppedEarly": result.stopped_early or None,
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
            "datasetDigest": pinned.get("datasetDigest", ""),
            "image": trainer_image(job),
            "codeVersion": result.code_version,
            "tensorflow": result.tensorflow,
            "seed": spec.training.seed,
            **({"warmStart": warm_start} if warm_start else {}),
        },
    }


def end_of(job: Json) -> Json | None:
    """The condition that says that the Job has failed.

    FailureTarget comes first; Failed follows when all pods have ended, on a lost node that is never.
    """
    return job_condition(job, "Failed") or job_condition(job, "FailureTarget")


def failed(observed: Observed, spec: TrainingJobSpec, job: Json, end: Json, number: int, now: float) -> Draft:
    """Counts the end of an attempt once, and says what ended it."""
    draft = Draft(Verdict(State.PROGRESSING, "Restarting", ""), history(observed, job, number, spec, now))
    found = what_ended(observed, job, end, _try(draft.fields, number), now)
    if not isinstance(found, End):
        draft.fields |= kept(observed.object, PROGRESS)
        draft.verdict = Verdict(State.PROGRESSING, "Restarting", f"attempt {number} failed: its pods end")
        draft.requeue_after = found
    else:
        count(draft, spec, _try(draft.fields, number), found, now)
    return draft


def note_disruption(pods: list[Json], one: Try) -> None:
    """A pod that is evicted is gone before its Job has failed: the status remembers that it was seen."""
    if any(is_disrupted(pod) for pod in pods):
        one.counted["disruptedAttempt"] = one.number


def what_ended(observed: Observed, job: Json, end: Json, one: Try, now: float) -> End | float:
    """What ended a Job, by its pods, or the seconds until that can be said; `end` is the condition that says so."""
    pods = pods_of_job(observed.pods, job)
    disrupted = [pod for pod in pods if is_disrupted(pod)]
    ended = [pod for pod in pods if has_ended(pod)]
    noted = one.counted.get("disruptedAttempt") == one.number
    waited = now - seconds(end["lastTransitionTime"]) if end.get("lastTransitionTime") else LAG_SECONDS
    if not ended and not disrupted and not noted and waited < LAG_SECONDS:
        return LAG_SECONDS - waited
    if noted and not disrupted:
        return End(_remembered(observed), disrupted=True)
    if not pods and end.get("reason") == OUT_OF_TRIES:
        # A pod that fails stays for its logs: somebody has deleted these.
        return End(Fault("Restarting", "its pods were deleted"), disrupted=True)
    said = end.get("message") or "it says no more"
    fault = worst_fault(disrupted or pods, observed.warnings, now) or Fault(
        "ContainerFailed", f"the Job failed: {said}"
    )
    return End(fault, bool(disrupted))


def _remembered(observed: Observed) -> Fault:
    """The disruption that the status tells of."""
    row = conditions_by_type(observed.object).get(SUCCEEDED, {})
    if row.get("reason") in (EVICTED, NODE_LOST) and row.get("message"):
        return Fault(row["reason"], row["message"])
    return Fault(EVICTED, "a pod was ended by its surroundings and is gone")


def count(draft: Draft, spec: TrainingJobSpec, one: Try, end: End, now: float) -> None:
    """Counts the end of an attempt."""
    if end.disrupted:
        count_disruption(draft, one, end.fault, now)
    elif end.fault.terminal:
        one.counted["failedAttempt"] = one.number
        draft.verdict = Verdict(State.FAILED, end.fault.reason, end.fault.message)
    else:
        count_failure(draft, spec, one, end.fault, now)


def count_disruption(draft: Draft, one: Try, fault: Fault, now: float) -> None:
    """An end that was not the training's fault: it starts again, up to a limit of our own."""
    disruptions = draft.fields.get("disruptions", 0) + 1
    one.counted["failedAttempt"] = one.number
    draft.fields["disruptions"] = disruptions
    if disruptions >= MAX_DISRUPTIONS:
        draft.verdict = Verdict(State.FAILED, fault.reason, f"disrupted {disruptions} times: {fault.message}")
    else:
        _start_again(draft, one, fault, now)


def count_failure(draft: Draft, spec: TrainingJobSpec, one: Try, fault: Fault, now: float) -> None:
    """An end that counts to backoffLimit."""
    failures = draft.fields.get("failures", 0) + 1
    one.counted["failedAttempt"] = one.number
    draft.fields["failures"] = failures
    if failures > spec.backoff_limit:
        allowed = f"failed attempts: {failures}, allowed: {spec.backoff_limit} {BACKOFF_NOTE}"
        text = f"{one.name}: {fault.message}; {allowed}"
        draft.verdict = Verdict(State.FAILED, _final_reason(fault), text)
    else:
        _start_again(draft, one, fault, now)


def _start_again(draft: Draft, one: Try, fault: Fault, now: float) -> None:
    """Waits 10 s, 20 s, 40 s ... between attempts, at most six minutes."""
    ends = draft.fields.get("failures", 0) + draft.fields.get("disruptions", 0)
    wait = min(MAX_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2 ** max(0, ends - 1))
    draft.fields["nextAttemptTime"] = timestamp(ceil(now + wait))
    text = f"{one.name}: {fault.message}; it starts again"
    draft.verdict = Verdict(State.PROGRESSING, fault.reason, text, trouble=True)
    draft.requeue_after = wait


def _final_reason(fault: Fault) -> str:
    """A cause with a name of its own says more than that the limit was reached."""
    return "BackoffLimitExceeded" if fault.reason in ("ContainerFailed", "CrashLoop") else fault.reason


def backs_off(observed: Observed, draft: Draft, now: float) -> bool:
    """The attempt was counted: True while it is too early for the next one."""
    due = draft.fields.pop("nextAttemptTime", None)
    left = seconds(due) - now if due else 0.0
    if left <= 0:
        return False
    said = conditions_by_type(observed.object).get(SUCCEEDED, {})
    text = said.get("message") or f"attempt {draft.fields.get('attempt')} ended; it starts again"
    draft.verdict = Verdict(State.PROGRESSING, said.get("reason", "Restarting"), text, trouble=True)
    draft.fields["nextAttemptTime"] = due
    draft.requeue_after = left
    return True


def stop(observed: Observed, owner: Owner, number: int) -> list[Action]:
    """Ends an attempt that has not ended."""
    return stop_job(observed.children.get(("Job", attempt_name(owner, number))))


def stop_all(observed: Observed) -> list[Action]:
    """Ends all attempts, of folds too."""
    return [
        action for (kind, _), job in observed.children.items() if kind == "Job" for action in stop_job(job)
    ]


def remove_all(observed: Observed) -> list[Action]:
    """Deletes Jobs, with their pods, and the Service of a training that has ended."""
    return [
        Delete(kind, name, child["metadata"]["uid"])
        for (kind, name), child in observed.children.items()
        if kind in ("Job", "Service") and "deletionTimestamp" not in child["metadata"]
    ]


def stop_job(job: Json | None) -> list[Action]:
    """Deletes a Job that has not ended."""
    if job is None or "deletionTimestamp" in job["metadata"]:
        return []
    if job_condition(job, "Failed") or job_condition(job, "Complete"):
        return []
    return [Delete("Job", job["metadata"]["name"], job["metadata"]["uid"])]
