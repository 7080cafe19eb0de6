"""LeptonTrainingJob: attempt after attempt until one succeeds or a person must act.

An attempt's end is counted first (`status.failedAttempt`), and the next one is made only after that count is
seen in the status: a crash in between neither counts twice nor forgets.
"""

from pydantic import ValidationError

from lepton_operator.actions import Apply, Create, Plan
from lepton_operator.api.training_job import TrainingJobSpec, TrainingJobStatus
from lepton_operator.conditions import SUCCEEDED, State, Verdict, is_true, seconds, timestamp
from lepton_operator.context import Context
from lepton_operator.decide import attempt as attempts
from lepton_operator.decide.common import (
    Draft,
    ensure_store,
    finish,
    invalid_spec,
    job_condition,
    kept,
    pods_of_job,
    soonest,
    waiting,
)
from lepton_operator.decide.network_fits import network_problem
from lepton_operator.desired.gang import DATASET_ANNOTATION, attempt_job, attempt_name, gang_service
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import Fault, refusal_fault

FIELDS = tuple(field.alias or "" for field in TrainingJobStatus.model_fields.values())


def claims_needed(obj: Json) -> tuple[str, ...]:
    """Claims to read: the store, until the job has ended."""
    if (obj.get("status") or {}).get("completionTime"):
        return ()
    claim = obj["spec"].get("storage", {}).get("claimName")
    return (claim,) if claim else ()


def decide(observed: Observed, context: Context, now: float) -> Plan:
    """The whole story of a training job."""
    obj = observed.object
    try:
        spec = TrainingJobSpec.model_validate(obj["spec"])
    except ValidationError as error:
        return invalid_spec(obj, SUCCEEDED, error, FIELDS, now)
    status = obj.get("status") or {}
    owner = Owner.of(obj)
    number = attempts.current_number(observed, owner)
    if _has_ended(status, spec):
        return finish(obj, SUCCEEDED, _ended(obj), 0, now)
    if number == 0:
        draft = _before_first(observed, owner, spec, context, now)
    elif (job := observed.children.get(("Job", attempt_name(owner, number)))) is None:
        draft = _lost_attempt(observed, owner, spec, number, context, now)
    elif job_condition(job, "Complete"):
        draft = attempts.completed(observed, spec, job, number, context, now)
    elif failed := job_condition(job, "Failed"):
        draft = _after_failure(observed, owner, spec, job, failed, number, context, now)
    else:
        draft = attempts.running(observed, owner, spec, job, number, context, now)
    if draft.verdict.state not in (State.DONE, State.FAILED):
        draft = _hold_deadline(observed, owner, spec, draft, number, now)
    if draft.verdict.state is State.FAILED:
        draft.fields["completionTime"] = timestamp(now)
    return finish(obj, SUCCEEDED, draft, spec.startup_deadline_seconds, now)


def _has_ended(status: Json, spec: TrainingJobSpec) -> bool:
    """Success is for ever; a failure too, unless a limit that ended the job was raised."""
    if status.get("result"):
        return True
    if not status.get("completionTime"):
        return False
    reason = next((row["reason"] for row in status.get("conditions", ()) if row["type"] == SUCCEEDED), "")
    if reason == "DeadlineExceeded":
        limit = spec.active_deadline_seconds
        used = seconds(status["completionTime"]) - seconds(status["startTime"])
        return limit is not None and used >= limit
    if attempts.BACKOFF_NOTE in _message(status):
        return bool(status.get("failures", 0) > spec.backoff_limit)
    return True


def _message(status: Json) -> str:
    return next((row["message"] for row in status.get("conditions", ()) if row["type"] == SUCCEEDED), "")


def _ended(obj: Json) -> Draft:
    """The same again: nothing is made, nothing is forgotten."""
    status = obj["status"]
    fields = {name: value for name, value in kept(obj, FIELDS).items() if name not in ("conditions", "observedGeneration")}
    row = next(row for row in status["conditions"] if row["type"] == SUCCEEDED)
    state = State.DONE if row["status"] == "True" else State.FAILED
    return Draft(Verdict(state, row["reason"], row["message"]), fields)


def _before_first(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, context: Context, now: float
) -> Draft:
    dataset = observed.dataset
    draft = Draft(Verdict(State.PROGRESSING, "Starting", "the first attempt starts"), {})
    name = spec.dataset.name
    if dataset is None:
        text = f"LeptonDataset {name} does not exist in this namespace: create it, or correct spec.dataset.name"
        draft.verdict = Verdict(State.WAITING, "DatasetNotFound", text)
        return draft
    if problem := network_problem(spec.network, dataset["spec"].get("image", {})):
        draft.verdict = Verdict(State.STALLED, "InvalidSpec", problem)
        return draft
    if not is_true(dataset, "Ready"):
        draft.verdict = _dataset_verdict(name, dataset)
        return draft
    key = dataset["status"]["digest"]
    draft.fields = {"datasetDigest": key, "workers": spec.workers}
    return _make_attempt(observed, owner, spec, draft, 1, context, now)


def _dataset_verdict(name: str, dataset: Json) -> Verdict:
    """A dataset that is being prepared is progress, one with a fault is waiting."""
    rows = {row["type"]: row for row in (dataset.get("status") or {}).get("conditions") or ()}
    ready = rows.get("Ready", {})
    reason = ready.get("reason", "not seen by the operator yet")
    text = f"LeptonDataset {name} is not ready ({reason}): {ready.get('message', 'it was just created')}"
    stalled = rows.get("Stalled", {}).get("status") == "True"
    return Verdict(State.WAITING if stalled else State.PROGRESSING, "DatasetNotReady", text)


def _make_attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, number: int, context: Context, now: float
) -> Draft:
    """Claim, headless Service and the attempt's Job."""
    key = draft.fields["datasetDigest"]
    data_claim = ((observed.dataset or {}).get("status") or {}).get("claimName") or spec.storage.claim_name
    draft.fields["attempt"] = number
    draft.fields.setdefault("startTime", timestamp(now))
    draft.actions += ensure_store(observed, spec.storage.claim_name, context)
    draft.actions.append(Apply(gang_service(owner)))
    draft.actions.append(Create(attempt_job(owner, spec, key, data_claim, number, context)))
    if fault := refusal_fault(observed.refusals):
        draft.verdict = waiting(fault)
    return draft


def _lost_attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, number: int, context: Context, now: float
) -> Draft:
    """The attempt's Job is not there: never made (refused, crash), or deleted by hand: made (again) under a new number."""
    status = observed.object["status"]
    draft = Draft(Verdict(State.PROGRESSING, "Restarting", "the attempt starts"), kept(observed.object, attempts.HISTORY))
    if status.get("failedAttempt", 0) >= number:
        return attempts.back_off(observed, spec, draft, number, _make_next(observed, owner, spec, context), now)
    if refusal_fault(observed.refusals) or not _was_seen(status):
        return _make_attempt(observed, owner, spec, draft, number, context, now)
    return _make_attempt(observed, owner, spec, draft, number + 1, context, now)


def _was_seen(status: Json) -> bool:
    """True when pods of the attempt had begun: its name may still be held by what is left of it."""
    return "progress" in status


def _make_next(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, context: Context
) -> attempts.MakeAttempt:
    def make(draft: Draft, number: int, now: float) -> Draft:
        return _make_attempt(observed, owner, spec, draft, number, context, now)

    return make


def _after_failure(
    observed: Observed,
    owner: Owner,
    spec: TrainingJobSpec,
    job: Json,
    failed: Json,
    number: int,
    context: Context,
    now: float,
) -> Draft:
    pods = pods_of_job(observed.pods, job["metadata"]["name"])
    draft = Draft(Verdict(State.PROGRESSING, "Restarting", ""), kept(observed.object, attempts.HISTORY))
    draft.fields.setdefault("datasetDigest", job["metadata"]["annotations"][DATASET_ANNOTATION])
    draft.fields["attempt"] = number
    if draft.fields.get("failedAttempt", 0) < number:
        attempts.count_failure(observed, spec, draft, pods, failed, number, now)
        return draft
    return attempts.back_off(observed, spec, draft, number, _make_next(observed, owner, spec, context), now)


def _hold_deadline(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, number: int, now: float
) -> Draft:
    """activeDeadlineSeconds over all attempts together."""
    start = draft.fields.get("startTime")
    if ended := (observed.object.get("status") or {}).get("completionTime"):
        # A limit was raised: the time between the end and now does not count.
        start = draft.fields["startTime"] = timestamp(seconds(start or ended) + now - seconds(ended))
    if spec.active_deadline_seconds is None or start is None:
        return draft
    left = seconds(start) + spec.active_deadline_seconds - now
    if left > 0:
        draft.requeue_after = soonest(draft.requeue_after, left)
        return draft
    text = f"not done {spec.active_deadline_seconds} s after the first attempt (activeDeadlineSeconds): raise it to go on"
    draft.verdict = Verdict(State.FAILED, "DeadlineExceeded", text)
    draft.actions = [*attempts.stop(observed, owner, number)]
    draft.pulls = ()
    return draft


