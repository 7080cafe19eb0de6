"""LeptonTrainingJob: attempt after attempt until one succeeds or a person must act.

An attempt's end is counted first (`status.failedAttempt`), and the next one is made only after that count is
seen in the status: a crash in between neither counts twice nor forgets.
"""

from pydantic import ValidationError

from lepton_operator.actions import Apply, Create, Plan
from lepton_operator.api.training_job import TrainingJobSpec, TrainingJobStatus
from lepton_operator.conditions import (
    SUCCEEDED,
    State,
    Verdict,
    conditions_by_type,
    is_true,
    seconds,
    timestamp,
)
from lepton_operator.context import Context
from lepton_operator.decide import attempt as attempts
from lepton_operator.decide.common import (
    Draft,
    ensure_store,
    finish,
    invalid_spec,
    job_condition,
    kept,
    soonest,
    template_claims,
    waiting,
)
from lepton_operator.decide.network_fits import network_problem
from lepton_operator.desired.gang import attempt_job, attempt_name, gang_service
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import Fault, refusal_fault

FIELDS = tuple(field.alias or "" for field in TrainingJobStatus.model_fields.values())


def claims_needed(obj: Json) -> tuple[str, ...]:
    """Claims to read: the store and those of the pods, until the job has ended."""
    if (obj.get("status") or {}).get("completionTime"):
        return ()
    claim = obj["spec"].get("storage", {}).get("claimName")
    return ((claim,) if claim else ()) + template_claims(obj)


def jobs_expected(obj: Json) -> tuple[str, ...]:
    """The Job of the attempt that was last seen at work."""
    status = obj.get("status") or {}
    number = int(status.get("attempt", 0))
    if status.get("completionTime") or number <= int(status.get("failedAttempt", 0)):
        return ()
    return (attempt_name(Owner.of(obj), number),)


def decide(observed: Observed, context: Context, now: float) -> Plan:
    """The whole story of a training job."""
    obj = observed.object
    status = obj.get("status") or {}
    try:
        spec = TrainingJobSpec.model_validate(obj["spec"])
    except ValidationError as error:
        if status.get("completionTime"):
            return finish(obj, SUCCEEDED, _ended(obj), 0, now)
        return invalid_spec(obj, SUCCEEDED, error, FIELDS, now)
    if _has_ended(status, spec):
        return finish(obj, SUCCEEDED, _ended(obj), 0, now)
    owner = Owner.of(obj)
    number = attempts.current_number(observed, owner)
    draft = _attempt(observed, owner, spec, number, context, now)
    if draft.verdict.state not in (State.DONE, State.FAILED):
        _hold_deadline(observed, owner, spec, draft, number, now)
    if draft.verdict.state is State.FAILED:
        draft.fields.pop("nextAttemptTime", None)
        draft.fields["completionTime"] = timestamp(now)
    return finish(obj, SUCCEEDED, draft, spec.startup_deadline_seconds, now)


def _attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, number: int, context: Context, now: float
) -> Draft:
    """Where the current attempt stands."""
    counted = (observed.object.get("status") or {}).get("failedAttempt", 0)
    if counted >= number:
        draft = Draft(Verdict(State.PROGRESSING, "Starting", ""), kept(observed.object, attempts.HISTORY))
        if not attempts.backs_off(observed, draft, now):
            _make_attempt(observed, owner, spec, draft, number + 1, context)
        return draft
    job = observed.children.get(("Job", attempt_name(owner, number)))
    if job is not None and job_condition(job, "Complete"):
        return attempts.completed(observed, spec, job, number, now)
    if job is not None and (end := attempts.end_of(job)):
        return attempts.failed(observed, spec, job, end, number, now)
    if job is not None and "deletionTimestamp" not in job["metadata"]:
        return attempts.running(observed, owner, spec, job, number, context, now)
    draft = Draft(Verdict(State.PROGRESSING, "Restarting", ""), kept(observed.object, attempts.HISTORY))
    draft.fields["attempt"] = number
    attempts.count_disruption(draft, number, Fault("Restarting", "its Job was deleted"), now)
    return draft


def _has_ended(status: Json, spec: TrainingJobSpec) -> bool:
    """Success is for ever; a failure too, unless a limit that ended the job was raised."""
    if status.get("result"):
        return True
    if not status.get("completionTime"):
        return False
    row = conditions_by_type({"status": status}).get(SUCCEEDED, {})
    if row.get("reason") == "DeadlineExceeded":
        limit = spec.active_deadline_seconds
        used = seconds(status["completionTime"]) - seconds(
            status.get("startTime") or status["completionTime"]
        )
        return limit is not None and used >= limit
    if attempts.BACKOFF_NOTE in row.get("message", ""):
        return bool(status.get("failures", 0) > spec.backoff_limit)
    return True


def _ended(obj: Json) -> Draft:
    """The same again: nothing is made, nothing is forgotten."""
    status = obj["status"]
    fields = {
        name: value
        for name, value in kept(obj, FIELDS).items()
        if name not in ("conditions", "observedGeneration")
    }
    row = conditions_by_type(obj).get(SUCCEEDED, {})
    if result := status.get("result"):
        text = row.get("message") if row.get("status") == "True" else None
        return Draft(Verdict(State.DONE, "Succeeded", text or f"version {result['digest'][:12]}"), fields)
    reason, text = row.get("reason") or "Failed", row.get("message") or "the training failed"
    return Draft(Verdict(State.FAILED, reason, text), fields)


def _find_data(observed: Observed, spec: TrainingJobSpec) -> tuple[dict[str, str], Verdict | None]:
    """The prepared data to train on, or what it is that is missing."""
    dataset = observed.dataset
    name = spec.dataset.name
    if dataset is None:
        text = (
            f"LeptonDataset {name} does not exist in this namespace: create it, or correct spec.dataset.name"
        )
        return {}, Verdict(State.WAITING, "DatasetNotFound", text)
    if spec.network.custom is None and (
        problem := network_problem(spec.network, dataset["spec"].get("image", {}))
    ):
        return {}, Verdict(State.STALLED, "InvalidSpec", problem)
    if not is_true(dataset, "Ready"):
        return {}, _dataset_verdict(name, dataset)
    status = dataset["status"]
    claim = status.get("claimName") or spec.storage.claim_name
    return {"datasetDigest": status["digest"], "datasetClaimName": claim}, None


def _dataset_verdict(name: str, dataset: Json) -> Verdict:
    """A dataset that is being prepared is progress, one with a fault is waiting."""
    rows = conditions_by_type(dataset)
    ready = rows.get("Ready", {})
    reason = ready.get("reason", "just created")
    if rows.get("Stalled", {}).get("status") == "True":
        text = f"LeptonDataset {name} is stalled ({reason}): {ready.get('message')}"
        return Verdict(State.WAITING, "DatasetNotReady", text)
    # Only its reason: its figures change often, and each change would be a write here, too.
    return Verdict(State.PROGRESSING, "DatasetNotReady", f"waits for LeptonDataset {name} ({reason})")


def _make_attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, number: int, context: Context
) -> None:
    """Claim, headless Service and the attempt's Job; its number is told once the Job is there."""
    if "datasetDigest" not in draft.fields:
        found, problem = _find_data(observed, spec)
        if problem:
            draft.verdict = problem
            return
        draft.fields |= found
    key = draft.fields["datasetDigest"]
    claim = draft.fields.setdefault("datasetClaimName", spec.storage.claim_name)
    draft.fields["workers"] = spec.workers
    draft.actions += attempts.outdated(observed, owner, number)
    draft.actions += ensure_store(observed, spec.storage.claim_name, context)
    draft.actions.append(Apply(gang_service(owner)))
    draft.actions.append(Create(attempt_job(owner, spec, key, claim, number, context)))
    draft.verdict = Verdict(State.PROGRESSING, "Starting", f"attempt {number} starts")
    if fault := refusal_fault(observed.refusals):
        draft.verdict = waiting(fault)


def _hold_deadline(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, number: int, now: float
) -> None:
    """activeDeadlineSeconds over all attempts together."""
    start = draft.fields.get("startTime")
    if ended := (observed.object.get("status") or {}).get("completionTime"):
        # A limit was raised: the time between the end and now does not count.
        start = draft.fields["startTime"] = timestamp(seconds(start or ended) + now - seconds(ended))
    limit = spec.active_deadline_seconds
    if limit is None or start is None:
        return
    left = seconds(start) + limit - now
    if left > 0:
        draft.requeue_after = soonest(draft.requeue_after, left)
        return
    text = f"not done {limit} s after the first attempt (activeDeadlineSeconds): raise it to go on"
    draft.verdict = Verdict(State.FAILED, "DeadlineExceeded", text)
    draft.fields["failedAttempt"] = number
    draft.actions = attempts.stop(observed, owner, number)
    draft.pulls = ()
