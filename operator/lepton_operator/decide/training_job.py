"""LeptonTrainingJob: attempt after attempt until one succeeds or a person must act; then folds and the gate.

An attempt's end is counted first (`status.failedAttempt`), and the next one is made only after that count is
seen in the status: a crash in between neither counts twice nor forgets.
"""

from pydantic import ValidationError

from lepton_operator.actions import Apply, Create, Plan
from lepton_operator.api.training_job import QUEUE_LABEL, TrainingJobSpec, TrainingJobStatus
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
from lepton_operator.decide import folds, judgement
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
from lepton_operator.decide.network_fits import network_problem, training_problem
from lepton_operator.desired.gang import Pinned, attempt_job, attempt_name, gang_service
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import refusal_fault

SUSPENDED = Verdict(
    State.PROGRESSING,
    "Suspended",
    "suspended: nothing runs; set spec.suspend to false to go on from the last checkpoint",
)
PAUSED = ("Suspended", "Queued")
"""Reasons for which the deadline stands still."""
RESULT = (*attempts.HISTORY, *attempts.PROGRESS, "metrics", "evaluation", "result", "lineage")
"""What the status holds of a training that is done."""
FIELDS = tuple(field.alias or "" for field in TrainingJobStatus.model_fields.values())


def claims_needed(obj: Json) -> tuple[str, ...]:
    """Claims to read: the store and those of the pods, until the job has ended."""
    if (obj.get("status") or {}).get("completionTime"):
        return ()
    claim = obj["spec"].get("storage", {}).get("claimName")
    return ((claim,) if claim else ()) + template_claims(obj)


def jobs_expected(obj: Json) -> tuple[str, ...]:
    """The Jobs that were last seen at work."""
    status = obj.get("status") or {}
    if status.get("completionTime"):
        return ()
    number = int(status.get("attempt", 0))
    if status.get("result") or number <= int(status.get("failedAttempt", 0)):
        return folds.jobs_expected(obj)
    return (attempt_name(Owner.of(obj), number),)


def decide(observed: Observed, context: Context, now: float) -> Plan:
    """The whole story of a training job."""
    obj = observed.object
    status = obj.get("status") or {}
    try:
        spec = TrainingJobSpec.model_validate(obj["spec"])
    except ValidationError as error:
        if status.get("completionTime"):
            return finish(obj, SUCCEEDED, _ended(observed, None, now), 0, now)
        return invalid_spec(obj, SUCCEEDED, error, FIELDS, now)
    if _has_ended(status, spec):
        return finish(obj, SUCCEEDED, _ended(observed, spec, now), 0, now)
    owner = Owner.of(obj)
    number = attempts.current_number(observed, owner)
    draft = _stage(observed, owner, spec, number, context, now)
    if draft.verdict.state not in (State.DONE, State.FAILED):
        draft.fields.pop("completionTime", None)
        _hold_deadline(observed, spec, draft, number, now)
    if draft.verdict.state in (State.DONE, State.FAILED):
        draft.fields.pop("nextAttemptTime", None)
        draft.fields.pop("pausedSince", None)
        draft.fields.setdefault("completionTime", timestamp(now))
        draft.requeue_after = spec.ttl_seconds_after_finished
    return finish(obj, SUCCEEDED, draft, spec.startup_deadline_seconds, now)


def _stage(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, number: int, context: Context, now: float
) -> Draft:
    """The training, then its judgement."""
    if "result" in (observed.object.get("status") or {}):
        draft = Draft(Verdict(State.DONE, "Succeeded", ""), kept(observed.object, RESULT))
        judgement.hold(draft)
    else:
        draft = _attempt(observed, owner, spec, number, context, now)
    if "result" in draft.fields and draft.verdict.state is State.DONE:
        _judge(observed, owner, spec, draft, context, now)
    return draft


def _judge(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, context: Context, now: float
) -> None:
    """Cross-validation, and the gate over its folds; the gate over the test split was judged before."""
    validation = spec.evaluation.cross_validation
    if validation is not None:
        if spec.suspend and not folds.all_done(draft.fields, validation.folds):
            folds.suspend(observed, owner, draft)
            draft.verdict = SUSPENDED
            return
        folds.cross_validate(observed, owner, spec, draft, _pinned(observed, draft), context, now)
        if draft.verdict.state is not State.DONE:
            return
    evaluation = draft.fields.get("evaluation") or {}
    if spec.evaluation.gate is not None and "gate" not in evaluation:
        judgement.judge(draft, spec, evaluation.get("meanAccuracy"))
    if draft.verdict.state is State.DONE:
        draft.verdict = Verdict(State.DONE, "Succeeded", _praise(draft.fields))


def _praise(fields: Json) -> str:
    """What was reached, in a sentence."""
    text = f"version {fields['result']['digest'][:12]}"
    if accuracy := (fields.get("metrics") or {}).get("testAccuracy"):
        text += f", accuracy {accuracy:.4f} on the test split"
    evaluation = fields.get("evaluation") or {}
    if "meanAccuracy" in evaluation:
        text += (
            f", {evaluation['meanAccuracy']:.4f} (standard deviation {evaluation['standardDeviation']:.4f}) over "
            f"{len(evaluation['folds'])} folds"
        )
    return text


def _attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, number: int, context: Context, now: float
) -> Draft:
    """Where the current attempt stands."""
    counted = (observed.object.get("status") or {}).get("failedAttempt", 0)
    if counted >= number:
        draft = Draft(Verdict(State.PROGRESSING, "Starting", ""), kept(observed.object, attempts.HISTORY))
        if spec.suspend:
            draft.fields |= kept(observed.object, attempts.PROGRESS)
            draft.fields.pop("nextAttemptTime", None)
            draft.verdict = SUSPENDED
        elif not attempts.backs_off(observed, draft, now):
            _make_attempt(observed, owner, spec, draft, number + 1, context)
        return draft
    job = observed.children.get(("Job", attempt_name(owner, number)))
    if job is not None and job_condition(job, "Complete"):
        return attempts.completed(observed, spec, job, number, now)
    if job is not None and (end := attempts.end_of(job)):
        return attempts.failed(observed, spec, job, end, number, now)
    if spec.suspend:
        return _suspend(observed, owner, number)
    if job is not None and "deletionTimestamp" not in job["metadata"]:
        if job["spec"].get("suspend"):
            return _queued(observed, spec, job, number, now)
        return attempts.running(observed, owner, spec, job, number, context, now)
    draft = Draft(Verdict(State.PROGRESSING, "Restarting", ""), kept(observed.object, attempts.HISTORY))
    draft.fields["attempt"] = number
    attempts.count_lost(draft, number, now)
    return draft


def _suspend(observed: Observed, owner: Owner, number: int) -> Draft:
    """Ends the attempt without counting it; the next one goes on from its last checkpoint."""
    fields = kept(observed.object, (*attempts.HISTORY, *attempts.PROGRESS))
    fields |= {"attempt": number, "failedAttempt": number}
    return Draft(SUSPENDED, fields, attempts.stop(observed, owner, number))


def _queued(observed: Observed, spec: TrainingJobSpec, job: Json, number: int, now: float) -> Draft:
    """Somebody else starts and stops the Job."""
    fields = attempts.history(observed, job, number, spec, now) | kept(observed.object, attempts.PROGRESS)
    queue = (job["metadata"].get("labels") or {}).get(QUEUE_LABEL)
    who = f"queue {queue} starts it" if queue else "whoever suspended it lets it go on"
    text = f"attempt {number}: its Job {job['metadata']['name']} is suspended until {who}"
    return Draft(Verdict(State.PROGRESSING, "Queued", text), fields)


def _has_ended(status: Json, spec: TrainingJobSpec) -> bool:
    """Success is for ever; a failure too, unless a limit that ended the job was raised."""
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


def _ended(observed: Observed, spec: TrainingJobSpec | None, now: float) -> Draft:
    """The same again: nothing is made, nothing is forgotten; what is left of its Jobs goes when its time has come."""
    obj = observed.object
    status = obj["status"]
    fields = {
        name: value
        for name, value in kept(obj, FIELDS).items()
        if name not in ("conditions", "observedGeneration")
    }
    row = conditions_by_type(obj).get(SUCCEEDED, {})
    draft = Draft(Verdict(State.DONE, "Succeeded", row.get("message") or ""), fields)
    if row.get("status") != "True":
        reason, text = row.get("reason") or "Failed", row.get("message") or "the training failed"
        if row or not status.get("result"):
            draft.verdict = Verdict(State.FAILED, reason, text)
        else:  # its conditions were lost
            draft.verdict = Verdict(State.DONE, "Succeeded", _praise(status))
            judgement.hold(draft)
    ttl = spec.ttl_seconds_after_finished if spec else None
    if ttl is not None:
        left = seconds(status["completionTime"]) + ttl - now
        draft.requeue_after = left if left > 0 else None
        draft.actions = [] if left > 0 else attempts.remove_all(observed)
    return draft


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
    if problem := training_problem(spec, dataset):
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


def _find_warm_start(observed: Observed, spec: TrainingJobSpec) -> tuple[dict[str, str], Verdict | None]:
    """The version whose weights the training begins with, or what is missing."""
    warm = spec.warm_start
    if warm is None:
        return {}, None
    if warm.training_job is None:
        return {"warmStartDigest": warm.version or ""}, None
    name, job = warm.training_job.name, observed.training_job
    if job is None:
        text = (
            f"LeptonTrainingJob {name} does not exist in this namespace: create it, or correct spec.warmStart"
        )
        return {}, Verdict(State.WAITING, "TrainingJobNotFound", text)
    row = conditions_by_type(job).get(SUCCEEDED, {})
    if row.get("status") == "False":
        text = f"LeptonTrainingJob {name} failed ({row.get('reason')}): name another one in a new job"
        return {}, Verdict(State.STALLED, "TrainingJobFailed", text)
    result = (job.get("status") or {}).get("result") or {}
    if row.get("status") != "True" or not result:
        text = f"waits for LeptonTrainingJob {name} ({row.get('reason', 'just created')})"
        return {}, Verdict(State.PROGRESSING, "TrainingJobNotReady", text)
    if result["claimName"] != spec.storage.claim_name:
        text = (
            f"the version of LeptonTrainingJob {name} is on claim {result['claimName']}, and this job's store is "
            f"{spec.storage.claim_name}: create a job with storage.claimName: {result['claimName']}"
        )
        return {}, Verdict(State.STALLED, "InvalidSpec", text)
    return {"warmStartDigest": result["digest"]}, None


def _pinned(observed: Observed, draft: Draft) -> Pinned:
    labels = observed.object["metadata"].get("labels") or {}
    fields = draft.fields
    return Pinned(
        fields["datasetDigest"],
        fields["datasetClaimName"],
        fields.get("warmStartDigest"),
        labels.get(QUEUE_LABEL),
    )


def _make_attempt(
    observed: Observed, owner: Owner, spec: TrainingJobSpec, draft: Draft, number: int, context: Context
) -> None:
    """Claim, headless Service and the attempt's Job; its number is told once the Job is there."""
    if "datasetDigest" not in draft.fields:
        found, problem = _find_data(observed, spec)
        if problem is None:
            more, problem = _find_warm_start(observed, spec)
            found |= more
        if problem:
            draft.verdict = problem
            return
        draft.fields |= found
    draft.fields.setdefault("datasetClaimName", spec.storage.claim_name)
    draft.fields["workers"] = spec.workers
    draft.actions += attempts.outdated(observed, owner, number)
    draft.actions += ensure_store(observed, spec.storage.claim_name, context)
    draft.actions.append(Apply(gang_service(owner)))
    draft.actions.append(Create(attempt_job(owner, spec, _pinned(observed, draft), number, context)))
    draft.verdict = Verdict(State.PROGRESSING, "Starting", f"attempt {number} starts")
    if fault := refusal_fault(observed.refusals):
        draft.verdict = waiting(fault)


def _hold_deadline(observed: Observed, spec: TrainingJobSpec, draft: Draft, number: int, now: float) -> None:
    """activeDeadlineSeconds over all attempts and folds together; it stands still while nothing may run."""
    fields = draft.fields
    if draft.verdict.reason in PAUSED:
        fields.setdefault("pausedSince", timestamp(now))
        return
    paused = fields.pop("pausedSince", None)
    start = fields.get("startTime")
    stood = (observed.object.get("status") or {}).get("completionTime") or paused
    if stood and (start or stood != paused):
        # A limit was raised, or a pause is over: the time between does not count.
        start = fields["startTime"] = timestamp(seconds(start or stood) + now - seconds(stood))
    limit = spec.active_deadline_seconds
    if limit is None or start is None:
        return
    left = seconds(start) + limit - now
    if left > 0:
        draft.requeue_after = soonest(draft.requeue_after, left)
        return
    text = f"not done {limit} s after the first attempt (activeDeadlineSeconds): raise it to go on"
    draft.verdict = Verdict(State.FAILED, "DeadlineExceeded", text)
    if "result" not in fields:
        fields["failedAttempt"] = number
    draft.actions = attempts.stop_all(observed)
    draft.pulls = ()
