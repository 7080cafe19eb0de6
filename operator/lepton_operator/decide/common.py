"""What all decisions share: the waiting clock, the claims, the pods, the status around a verdict."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from lepton_operator.actions import Action, Create, Emit, Plan, Pull
from lepton_operator.api.common import DEFAULT_CLAIM
from lepton_operator.conditions import (
    STALLED,
    STARTUP_DEADLINE_EXCEEDED,
    Extra,
    State,
    Verdict,
    build_conditions,
    conditions_by_type,
    seconds,
    stall_after,
    timestamp,
    transition_event,
)
from lepton_operator.context import Context
from lepton_operator.desired.store_claim import store_claim
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import IMAGE_PULL_FAILED, Fault
from lepton_workloads.contract.outcome import Failure, Report
from lepton_workloads.contract.own_code import OWN_CONTAINER


@dataclass(slots=True)
class Draft:
    """What a decision has gathered so far; `finish` turns it into a plan."""

    verdict: Verdict
    fields: dict[str, Any]
    """The status without observedGeneration, conditions and waitingSince; None values are dropped."""
    actions: list[Action] = field(default_factory=list)
    pulls: tuple[Pull, ...] = ()
    requeue_after: float | None = None
    again: bool = False
    """See `Plan`."""
    extras: tuple[Extra, ...] = ()
    events: tuple[Emit, ...] = ()
    """Beside that of a transition of the main condition."""
    moved_on: bool = False
    """Something was reached since the last visit: the startup deadline counts anew."""


def finish(obj: Json, main: str, draft: Draft, deadline: float, now: float) -> Plan:
    """Adds the waiting clock, the conditions and the Event of a transition."""
    status = obj.get("status") or {}
    verdict, requeue = draft.verdict, draft.requeue_after
    waiting_since = None
    if verdict.state.has_deadline:
        # A new spec may be the cure: it gets the whole deadline.
        new_spec = status.get("observedGeneration") != obj["metadata"].get("generation", 1)
        anew = new_spec or draft.moved_on or _is_cured(obj, verdict)
        before = None if anew else status.get("waitingSince")
        waiting_since = before or timestamp(now)
        verdict, left = stall_after(verdict, seconds(waiting_since), deadline, now)
        requeue = soonest(requeue, left)
    fields = draft.fields | {"waitingSince": waiting_since}
    new = {key: value for key, value in fields.items() if value is not None}
    new["observedGeneration"] = obj["metadata"].get("generation", 1)
    new["conditions"] = build_conditions(obj, main, verdict, now, draft.extras)
    events = (*transition_event(obj, main, verdict), *draft.events)
    return Plan(
        status=new,
        actions=tuple(draft.actions),
        events=events,
        pulls=draft.pulls,
        requeue_after=None if requeue is None else max(0.1, requeue),
        again=draft.again,
        urgent=_flips(status, new),
    )


def _is_cured(obj: Json, verdict: Verdict) -> bool:
    """The fault that had stalled it is gone: what starts now gets the whole deadline."""
    stalled = conditions_by_type(obj).get(STALLED, {})
    by_fault = stalled.get("status") == "True" and stalled.get("reason") != STARTUP_DEADLINE_EXCEEDED
    return by_fault and verdict.state is State.STARTING


def soonest(*times: float | None) -> float | None:
    """The smallest of the given seconds, or None."""
    return min((time for time in times if time is not None), default=None)


def _flips(old: Json, new: Json) -> bool:
    """True when a condition's status or reason differs: such a change is told at once."""

    def heads(status: Json) -> list[tuple[str, str, str]]:
        return [(row["type"], row["status"], row["reason"]) for row in status.get("conditions") or ()]

    return heads(old) != heads(new) or old.get("observedGeneration") != new.get("observedGeneration")


def kept(obj: Json, names: Iterable[str]) -> dict[str, Any]:
    """The named status fields as they are."""
    status = obj.get("status") or {}
    return {name: status[name] for name in names if name in status}


def waiting(fault: Fault) -> Verdict:
    """A fault as a verdict: terminal ones stall at once, others after the startup deadline."""
    return Verdict(State.STALLED if fault.terminal else State.WAITING, fault.reason, fault.message)


def ensure_store(observed: Observed, claim: str, context: Context) -> list[Action]:
    """Creates the default claim when it is missing; other claims are the user's."""
    if claim == DEFAULT_CLAIM and claim in observed.claims and observed.claims[claim] is None:
        return [Create(store_claim(claim, context), keep=True)]
    return []


def user_claims(*claims: str | None) -> list[str]:
    """Those that the operator doesn't create."""
    return [claim for claim in claims if claim and claim != DEFAULT_CLAIM]


def template_claims(obj: Json) -> tuple[str, ...]:
    """Those that spec.podTemplate.volumes names."""
    volumes = obj["spec"].get("podTemplate", {}).get("volumes") or ()
    claims = (volume.get("persistentVolumeClaim") for volume in volumes)
    return tuple(claim["claimName"] for claim in claims if claim)


def job_condition(job: Json, kind: str) -> Json | None:
    """The Job's condition of that type when it is True."""
    condition = conditions_by_type(job).get(kind, {})
    return condition if condition.get("status") == "True" else None


def image_was_replaced(job: Json, fault: Fault, image: str) -> bool:
    """The image that a Job can't pull is not that of the operator's settings any more: made anew, it may work."""
    used = job["spec"]["template"]["spec"]["containers"][0]["image"]
    return fault.reason == IMAGE_PULL_FAILED and used != image


def pods_of_job(pods: Sequence[Json], job: Json) -> list[Json]:
    """A Job's pods, oldest first; not those of an earlier Job of the same name."""
    uid = job["metadata"]["uid"]
    own = [
        pod
        for pod in pods
        if any(owner.get("uid") == uid for owner in pod["metadata"].get("ownerReferences") or ())
    ]
    return sorted(
        own, key=lambda pod: (pod["metadata"].get("creationTimestamp", ""), pod["metadata"]["name"])
    )


def has_ended(pod: Json) -> bool:
    """True when all containers have ended for good."""
    return pod.get("status", {}).get("phase") in ("Succeeded", "Failed")


def is_at_work(pod: Json) -> bool:
    """It runs; own code does so in an init container, which Kubernetes calls Pending."""
    status = pod.get("status", {})
    if status.get("phase") != "Pending":
        return bool(status.get("phase") == "Running")
    return any(
        one["name"] == OWN_CONTAINER and {"running", "terminated"} & set(one.get("state", {}))
        for one in status.get("initContainerStatuses") or ()
    )


def pod_index(pod: Json) -> int:
    """Completion index of a pod of an Indexed Job."""
    return int(pod["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index", 0))


def unreadable_result(pods: Iterable[Json]) -> Fault | None:
    """Index 0 ended well and is there, but said nothing of use: running it again would give the same."""
    for pod in pods:
        if pod_index(pod) == 0 and pod.get("status", {}).get("phase") == "Succeeded":
            image = pod["spec"]["containers"][0]["image"]
            text = (
                f"pod {pod['metadata']['name']} ended well, but its result can't be read: let image {image} be "
                "of the operator's version"
            )
            return Fault(Failure.INTERNAL_ERROR.value, text)
    return None


def pulls_of(pods: Iterable[Json], interval_seconds: float | None = None) -> tuple[Pull, ...]:
    """Reports to pull: from pods that are at work and have an address."""
    return tuple(
        Pull(pod["metadata"]["uid"], pod["metadata"]["name"], pod["status"]["podIP"], interval_seconds)
        for pod in pods
        if is_at_work(pod) and pod["status"].get("podIP")
    )


def reports_of(
    observed: Observed, pods: Iterable[Json], owner_uid: str, attempt: int = 1
) -> dict[int, Report]:
    """Reports by index; those of another owner or attempt are not believed."""
    found: dict[int, Report] = {}
    for pod in pods:
        report = observed.reports.get(pod["metadata"]["uid"])
        if report and report.owner_uid == owner_uid and report.attempt == attempt:
            found[pod_index(pod)] = report
    return found


def invalid_spec(
    obj: Json,
    main: str,
    error: ValidationError,
    names: Iterable[str],
    now: float,
    extras: tuple[Extra, ...] = (),
) -> Plan:
    """A spec that the models refuse although the API server took it (made with other CRDs)."""
    text = (
        f"the spec can't be read ({_problems(error)}): correct it, or apply the CRDs of this version of "
        "Lepton"
    )
    verdict = Verdict(State.STALLED, "InvalidSpec", text)
    return finish(obj, main, Draft(verdict, kept(obj, names), extras=extras), 0, now)


def _problems(error: ValidationError) -> str:
    """The first three problems, each as `path: what is wrong`."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    texts = [f"{'.'.join(map(str, item['loc'])) or 'spec'}: {item['msg']}" for item in found]
    return "; ".join(texts[:3])[:1000]
