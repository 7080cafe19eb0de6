"""LeptonDataset: one Job per spec, its result kept in the status, nothing repeated."""

from typing import Any

from pydantic import ValidationError

from lepton_operator.actions import Action, Apply, Create, Delete, Plan
from lepton_operator.api.dataset import DatasetSpec, DatasetStatus
from lepton_operator.conditions import READY, State, Verdict, is_true
from lepton_operator.context import Context
from lepton_operator.decide.common import (
    Draft,
    ensure_store,
    finish,
    has_ended,
    image_was_replaced,
    invalid_spec,
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
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.prepare_job import (
    CONTAINER,
    CONTENT_ANNOTATION,
    content_hash,
    job_labels,
    job_name,
    prepare_job,
)
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import (
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
from lepton_workloads.contract.outcome import PrepareResult

PREPARED = (
    "digest",
    "specHash",
    "claimName",
    "samples",
    "classes",
    "labels",
    "splits",
    "invalidFiles",
    "bytes",
)
TRY_AGAIN = "; any change of the spec tries again, for example of spec.revision"
FIELDS = tuple(field.alias or "" for field in DatasetStatus.model_fields.values())


def claims_needed(obj: Json) -> tuple[str, ...]:
    """Claims to read: none once the copy is there."""
    try:
        spec = DatasetSpec.model_validate(obj["spec"])
    except ValidationError:
        return ()
    if _is_prepared(obj, spec):
        return ()
    source = (spec.source.pvc.claim_name,) if spec.source.pvc else ()
    return (spec.storage.claim_name, *source, *template_claims(obj))


def jobs_expected(obj: Json) -> tuple[str, ...]:
    """The Job that was last seen at work."""
    name = (obj.get("status") or {}).get("jobName")
    return (name,) if name and not is_true(obj, READY) else ()


def decide(observed: Observed, context: Context, now: float) -> Plan:
    """The whole story of a dataset."""
    obj = observed.object
    try:
        spec = DatasetSpec.model_validate(obj["spec"])
    except ValidationError as error:
        return invalid_spec(obj, READY, error, FIELDS, now)
    owner = Owner.of(obj)
    name = job_name(owner, spec)
    if _is_prepared(obj, spec):
        draft = Draft(_ready(obj["status"]), kept(obj, (*PREPARED, "jobName")))
        if made_it := _jobs_of_copies(observed, {obj["status"]["specHash"]}):
            draft.fields["jobName"] = name if name in made_it else min(made_it)
        draft.fields["progress"] = {"phase": "Done", "percent": "100%", **_done(obj["status"])}
    elif (job := observed.children.get(("Job", name))) is None:
        draft = _start(observed, owner, spec, context)
    elif job_condition(job, "Complete"):
        draft = _finished(observed, spec, job)
    elif failed := job_condition(job, "Failed"):
        draft = _failed(observed, spec, job, failed, now)
    else:
        draft = _running(observed, owner, spec, job, context, now)
    told, tells = (obj.get("status") or {}).get("specHash"), draft.fields.get("specHash")
    copies = {copy for copy in (told, tells) if copy}
    draft.actions += _stale_jobs(observed, {name, *_jobs_of_copies(observed, copies)})
    # The Job of the copy before goes once the status tells of the new one, and not sooner.
    draft.again = bool(told) and told != tells
    return finish(obj, READY, draft, spec.startup_deadline_seconds, now)


def _is_prepared(obj: Json, spec: DatasetSpec) -> bool:
    status = obj.get("status") or {}
    return bool(status.get("digest")) and status.get("specHash") == content_hash(spec)


def _ready(status: Json) -> Verdict:
    text = f"{status['samples']} pictures of {status['classes']} classes are prepared"
    if status.get("invalidFiles"):
        text += f"; {status['invalidFiles']} unreadable files were set aside"
    return Verdict(State.DONE, "Prepared", text)


def _done(status: Json) -> dict[str, int]:
    return {"done": status["samples"], "total": status["samples"]}


def _jobs_of_copies(observed: Observed, told: set[str]) -> set[str]:
    """Jobs that have made one of the copies that the status tells of."""
    return {
        name
        for (kind, name), job in observed.children.items()
        if kind == "Job"
        and job_condition(job, "Complete")
        and (job["metadata"].get("annotations") or {}).get(CONTENT_ANNOTATION) in told
    }


def _stale_jobs(observed: Observed, wanted: set[str]) -> list[Action]:
    """Jobs of an earlier spec, whose result is not wanted any more; the one of the copy that is there stays."""
    return [
        Delete(kind, name, job["metadata"]["uid"])
        for (kind, name), job in observed.children.items()
        if kind == "Job" and name not in wanted and not job["metadata"].get("deletionTimestamp")
    ]


def _start(observed: Observed, owner: Owner, spec: DatasetSpec, context: Context) -> Draft:
    verdict = Verdict(State.PROGRESSING, "Preparing", "the preparation starts")
    if fault := refusal_fault(observed.refusals):
        verdict = waiting(fault)
    actions = ensure_store(observed, spec.storage.claim_name, context)
    actions.append(Create(prepare_job(owner, spec, context)))
    fields = kept(observed.object, PREPARED) | {"jobName": job_name(owner, spec)}
    return Draft(verdict, fields, actions)


def _running(
    observed: Observed, owner: Owner, spec: DatasetSpec, job: Json, context: Context, now: float
) -> Draft:
    name = job["metadata"]["name"]
    pods = pods_of_job(observed.pods, job)
    running = [pod for pod in pods if pod.get("status", {}).get("phase") == "Running"]
    draft = Draft(
        Verdict(State.STARTING, "Preparing", "the pods of the preparation start"),
        kept(observed.object, (*PREPARED, "progress")) | {"jobName": name},
        [
            Apply(job_labels(owner, name), create=False),
            *ensure_store(observed, spec.storage.claim_name, context),
        ],
    )
    if running:
        draft.verdict = Verdict(State.PROGRESSING, "Preparing", "pictures are being prepared")
    if fault := _fault(observed, spec, name, pods, now):
        draft.verdict = waiting(fault)
        lost = fault.reason == NODE_LOST and any(is_disrupted(pod) for pod in pods if not has_ended(pod))
        if lost or image_was_replaced(job, fault, context.server_image):
            # The Job would wait for the lost pod to end; made anew, it goes on elsewhere with what is there.
            draft.actions.append(Delete("Job", name, job["metadata"]["uid"]))
    draft.pulls = pulls_of(running)
    report = context.report_interval_seconds if running else None
    draft.requeue_after = soonest(report, look_again(pods, now))
    reports = reports_of(observed, running, owner.uid)
    if reports:
        total = max(report.total for report in reports.values())
        done = min(total, sum(report.done for report in reports.values()))
        percent = f"{100 * done // total}%" if total else "0%"
        phase = reports.get(0, next(iter(reports.values()))).phase
        draft.fields["progress"] = {"phase": phase, "done": done, "total": total, "percent": percent}
    return draft


def _fault(observed: Observed, spec: DatasetSpec, job: str, pods: list[Json], now: float) -> Fault | None:
    source = spec.source.pvc.claim_name if spec.source.pvc else None
    more = template_claims(observed.object)
    live = [pod for pod in pods if not has_ended(pod)]
    return (
        refusal_fault(observed.refusals)
        or claim_fault(observed.claims, user_claims(spec.storage.claim_name, source, *more))
        or worst_fault(live, observed.warnings, now)
        or (_fault_between_tries(observed, job, pods, now) if not live else None)
        or (creation_fault("Job", job, observed.warnings, pods) if len(pods) < spec.parallelism else None)
    )


def _fault_between_tries(observed: Observed, job: str, pods: list[Json], now: float) -> Fault | None:
    """A pod that failed is told of only while no other one works in its place."""
    return creation_fault("Job", job, observed.warnings, pods) or worst_fault(pods, observed.warnings, now)


def _finished(observed: Observed, spec: DatasetSpec, job: Json) -> Draft:
    name = job["metadata"]["name"]
    pods = pods_of_job(observed.pods, job)
    result = _result(pods)
    if result is None and not all(has_ended(pod) for pod in pods):
        # The Job was seen before its pods: their end is on its way.
        fields = kept(observed.object, (*PREPARED, "progress")) | {"jobName": name}
        return Draft(Verdict(State.PROGRESSING, "Preparing", "the result is being read"), fields)
    if result is None and (fault := unreadable_result(pods)):
        verdict = Verdict(State.STALLED, fault.reason, f"{fault.message}{TRY_AGAIN}")
        return Draft(verdict, kept(observed.object, PREPARED) | {"jobName": name})
    if result is None:
        # The pods are gone with their result: run again, index 0 finds the prepared copy and says so at once.
        verdict = Verdict(
            State.PROGRESSING, "Preparing", "the result was lost with its pods and is read again"
        )
        again = Delete("Job", name, job["metadata"]["uid"])
        return Draft(verdict, kept(observed.object, PREPARED) | {"jobName": name}, [again])
    fields = _prepared_fields(result, spec, name)
    return Draft(_ready(fields), fields)


def _result(pods: list[Json]) -> PrepareResult | None:
    for pod in pods:
        outcome = outcome_of(pod, CONTAINER)
        if pod_index(pod) == 0 and outcome and outcome.prepare:
            return outcome.prepare
    return None


def _prepared_fields(result: PrepareResult, spec: DatasetSpec, job: str) -> dict[str, Any]:
    return {
        "digest": result.key,
        "specHash": content_hash(spec),
        "claimName": spec.storage.claim_name,
        "samples": result.samples,
        "classes": result.classes,
        "labels": list(result.labels),
        "splits": {"train": result.train, "validation": result.validation, "test": result.test},
        "invalidFiles": result.invalid_files,
        "bytes": result.bytes,
        "jobName": job,
        "progress": {"phase": "Done", "done": result.samples, "total": result.samples, "percent": "100%"},
    }


def _failed(observed: Observed, spec: DatasetSpec, job: Json, failed: Json, now: float) -> Draft:
    """Ended for this spec; another spec (or revision) makes another Job, and so does deleting this one."""
    name = job["metadata"]["name"]
    pods = pods_of_job(observed.pods, job)
    fault = _named_failure(pods) or worst_fault(pods, observed.warnings, now)
    before = observed.object.get("status") or {}
    if failed.get("reason") == "DeadlineExceeded":
        text = f"not done after activeDeadlineSeconds: {spec.active_deadline_seconds}: raise it"
        fault = Fault("DeadlineExceeded", text)
    elif fault is None and before.get("jobName") == name:
        # The pods are gone; what was said of them stays true.
        fault = _said_before(observed.object)
    if fault is None and not all(has_ended(pod) for pod in pods):
        # The Job was seen before its pods: what ended them is on its way.
        fields = kept(observed.object, (*PREPARED, "progress")) | {"jobName": name}
        return Draft(Verdict(State.PROGRESSING, "Preparing", "the pods of the preparation end"), fields)
    if fault is None:
        fault = Fault(
            "BackoffLimitExceeded", f"Job {name} failed: {failed.get('message') or 'it says no more'}"
        )
    text = fault.message if fault.message.endswith(TRY_AGAIN) else f"{fault.message}{TRY_AGAIN}"
    verdict = Verdict(State.STALLED, fault.reason, text)
    return Draft(verdict, kept(observed.object, PREPARED) | {"jobName": name})


def _named_failure(pods: list[Json]) -> Fault | None:
    """What the newest pod that named a reason said; index 0 knows most."""
    found = None
    for pod in pods:
        outcome = outcome_of(pod, CONTAINER)
        if outcome and outcome.reason and (found is None or outcome.terminal or pod_index(pod) == 0):
            found = Fault(outcome.reason, outcome.message or "the preparation failed", outcome.terminal)
    return found


def _said_before(obj: Json) -> Fault | None:
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if condition["type"] == "Stalled" and condition["status"] == "True":
            return Fault(condition["reason"], condition["message"])
    return None
