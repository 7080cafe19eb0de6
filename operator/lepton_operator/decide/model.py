"""LeptonModel: find the version, serve it, say whether exactly that version is up."""

from dataclasses import dataclass

from pydantic import ValidationError

from lepton_operator.actions import Action, Apply, Delete, Plan
from lepton_operator.api.model import ModelArtifact, ModelSpec, ModelStatus
from lepton_operator.conditions import (
    AVAILABLE,
    READY,
    STARTUP_DEADLINE_EXCEEDED,
    Extra,
    State,
    Verdict,
    conditions_by_type,
    is_true,
)
from lepton_operator.context import Context
from lepton_operator.decide.autoscaling import autoscaler_verdict
from lepton_operator.decide.common import (
    Draft,
    finish,
    has_ended,
    invalid_spec,
    soonest,
    template_claims,
    waiting,
)
from lepton_operator.decide.drift import unknown, watch
from lepton_operator.decide.servable import has_image, settle
from lepton_operator.decide.version import Target, find_target
from lepton_operator.desired.autoscaler import ReplicaRange, autoscaler
from lepton_operator.desired.owner import NAME_LABEL, UID_LABEL, VERSION_LABEL, Owner
from lepton_operator.desired.serving import (
    ARTIFACT_ANNOTATION,
    TEMPLATE_ANNOTATION,
    deployment,
    disruption_budget,
    service,
    service_url,
)
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import (
    Fault,
    claim_fault,
    creation_fault,
    deployment_fault,
    look_again,
    refusal_fault,
    worst_fault,
)

TEMPLATE_LABEL = "pod-template-hash"
"""Set by the Deployment's controller: pods of one template have the same."""

FIELDS = tuple(field.alias or "" for field in ModelStatus.model_fields.values())


def claims_needed(obj: Json) -> tuple[str, ...]:
    """The claims of the version and of the pods, while the model is not ready."""
    if is_true(obj, READY):
        return ()
    claim = ((obj.get("status") or {}).get("artifact") or {}).get("claimName")
    return ((claim,) if claim else ()) + _named_claims(obj)


def _named_claims(obj: Json) -> tuple[str, ...]:
    """Those that the spec names for the pods' own use."""
    log = obj["spec"].get("requestLog")
    return (*((log["claimName"],) if log else ()), *template_claims(obj))


@dataclass(frozen=True, slots=True)
class Rollout:
    """The Deployment in figures."""

    found: bool
    current: bool
    """The live Deployment is the wanted one, and its controller has seen it."""
    replicas: int
    updated: int
    ready: int
    available: int


def decide(observed: Observed, context: Context, now: float) -> Plan:
    """The whole story of a model."""
    obj = observed.object
    owner = Owner.of(obj)
    try:
        spec = ModelSpec.model_validate(obj["spec"])
        before = _pinned(observed, owner)
    except ValidationError as error:
        still = _available(_rollout(observed, owner, None), wanted=False)
        return invalid_spec(obj, READY, error, FIELDS, now, (still, unknown()))
    target, spec = settle(spec, find_target(spec, before, observed.training_job, obj), before, obj, context)
    wanted = None
    if target.artifact is not None and has_image(spec, context):
        wanted = deployment(owner, spec, target.artifact, target.version, context)
    rollout = _rollout(observed, owner, wanted)
    replicas = _replicas(observed, owner, spec)
    verdict = target.waiting or _verdict(observed, owner, replicas, target, rollout, now)
    due = look_again(_newest_pods(observed, target), now)
    if spec.autoscaling is not None and verdict.state is State.DONE:
        verdict, due = autoscaler_verdict(observed, owner, verdict, context.autoscaler_grace_seconds, now)
    drift = watch(observed, spec, target.version, context, now)
    draft = Draft(
        verdict,
        _fields(owner, spec, replicas, target, rollout) | drift.fields,
        moved_on=_moved_on(obj, target, rollout),
        requeue_after=soonest(due, drift.requeue_after),
        pulls=drift.pulls,
        events=drift.events,
    )
    if wanted is not None:
        draft.actions = [
            *_scaled(observed, owner, spec, wanted),
            Apply(service(owner, spec)),
            *_budget(observed, owner, spec),
        ]
    wanted_only = not target.waiting and rollout.current and rollout.updated >= rollout.replicas
    at_zero = replicas == 0 and target.artifact is not None
    draft.extras = (_available(rollout, wanted_only, at_zero), drift.extra)
    return finish(obj, READY, draft, spec.startup_deadline_seconds, now)


def _pinned(observed: Observed, owner: Owner) -> ModelArtifact | None:
    """The version wanted last: by the status, else by the Deployment that was made of it."""
    if pinned := (observed.object.get("status") or {}).get("artifact"):
        return ModelArtifact.model_validate(pinned)
    live = observed.children.get(("Deployment", owner.name), {})
    text = live.get("metadata", {}).get("annotations", {}).get(ARTIFACT_ANNOTATION)
    try:
        return ModelArtifact.model_validate_json(text) if text else None
    except ValidationError:
        # Edited by hand: as good as no note.
        return None


def _scaled(observed: Observed, owner: Owner, spec: ModelSpec, wanted: Json) -> list[Action]:
    """The Deployment and, if wanted, its autoscaler, so that there is only ever one who scales."""
    scaling = spec.autoscaling
    if scaling is not None:
        allowed = ReplicaRange(scaling.min_replicas, scaling.max_replicas)
        return [Apply(wanted, allowed), Apply(autoscaler(owner, scaling))]
    held = observed.children.get(("HorizontalPodAutoscaler", owner.name))
    gone: list[Action] = (
        [Delete("HorizontalPodAutoscaler", owner.name, held["metadata"]["uid"])] if held else []
    )
    return [*gone, Apply(wanted)]


def _replicas(observed: Observed, owner: Owner, spec: ModelSpec) -> int:
    """How many pods there should be now: as the spec says, or as the autoscaler said last."""
    live = observed.children.get(("Deployment", owner.name))
    if spec.autoscaling is None or live is None:
        return spec.fewest_replicas
    allowed = ReplicaRange(spec.autoscaling.min_replicas, spec.autoscaling.max_replicas)
    return allowed.nearest(live["spec"].get("replicas", 1))


def _budget(observed: Observed, owner: Owner, spec: ModelSpec) -> list[Action]:
    """A budget from two replicas on; with one it would block every drain."""
    if spec.fewest_replicas >= 2:
        return [Apply(disruption_budget(owner))]
    budget = observed.children.get(("PodDisruptionBudget", owner.name))
    return [Delete("PodDisruptionBudget", owner.name, budget["metadata"]["uid"])] if budget else []


def _rollout(observed: Observed, owner: Owner, wanted: Json | None) -> Rollout:
    live = observed.children.get(("Deployment", owner.name))
    if live is None:
        return Rollout(False, False, 0, 0, 0, 0)
    status = live.get("status", {})
    current = status.get("observedGeneration", 0) >= live["metadata"].get("generation", 1)
    if wanted is not None:
        template = wanted["metadata"]["annotations"][TEMPLATE_ANNOTATION]
        current = (
            current
            and live["metadata"].get("annotations", {}).get(TEMPLATE_ANNOTATION) == template
            and wanted["spec"].get("replicas") in (None, live["spec"].get("replicas"))
        )
    return Rollout(
        True,
        current,
        status.get("replicas", 0),
        status.get("updatedReplicas", 0) if current else 0,
        status.get("readyReplicas", 0),
        status.get("availableReplicas", 0),
    )


def _verdict(
    observed: Observed, owner: Owner, replicas: int, target: Target, rollout: Rollout, now: float
) -> Verdict:
    if fault := refusal_fault(observed.refusals):
        return waiting(fault)
    all_updated = rollout.current and rollout.updated == rollout.replicas == replicas
    if all_updated and rollout.ready == rollout.available == replicas:
        if replicas == 0:
            return Verdict(State.DONE, "ScaledToZero", f"version {target.version} is scaled to 0 replicas")
        text = f"version {target.version} answers on all {replicas} replicas"
        return Verdict(State.DONE, "Serving", text)
    if rollout.found and (fault := _fault(observed, owner, target, rollout.updated < replicas, now)):
        return waiting(fault)
    text = (
        f"version {target.version}: {rollout.updated} of {replicas} replicas updated, {rollout.ready} ready"
    )
    progress = conditions_by_type(observed.children.get(("Deployment", owner.name), {})).get(
        "Progressing", {}
    )
    if rollout.current and progress.get("reason") == "ProgressDeadlineExceeded":
        text = f"{text}: nothing has moved for longer than the Deployment's progressDeadlineSeconds"
        return Verdict(State.STALLED, STARTUP_DEADLINE_EXCEEDED, text)
    return Verdict(State.STARTING, "RollingOut", text)


def _moved_on(obj: Json, target: Target, rollout: Rollout) -> bool:
    """Another version is wanted, or one more pod of it is there or answers."""
    status = obj.get("status") or {}
    more = rollout.updated > status.get("updatedReplicas", 0) or rollout.ready > status.get(
        "readyReplicas", 0
    )
    return bool(status.get("version", "") != target.version or more)


def _fault(observed: Observed, owner: Owner, target: Target, missing: bool, now: float) -> Fault | None:
    """What is wrong; `missing`: not all pods of the wanted template were made."""
    pods = _newest_pods(observed, target)
    version = target.artifact.claim_name if target.artifact else None
    more = _named_claims(observed.object)
    return (
        claim_fault(observed.claims, [claim for claim in (version, *more) if claim])
        or worst_fault(pods, observed.warnings, now)
        or (_creation_fault(observed, owner, pods) if missing else None)
    )


def _creation_fault(observed: Observed, owner: Owner, pods: list[Json]) -> Fault | None:
    """Why pods are missing; asked only then: an earlier template's refusal stays in the Deployment for a while."""
    deployment = observed.children.get(("Deployment", owner.name))
    return deployment_fault(deployment) or creation_fault("Deployment", owner.name, observed.warnings, pods)


def _newest_pods(observed: Observed, target: Target) -> list[Json]:
    """Pods of the wanted version and the newest template; those that have ended only while no other is there.

    The pods of an earlier template stay until the new ones answer: what is wrong with them may be cured.
    """
    pods = [
        pod
        for pod in observed.pods
        if pod["metadata"]["labels"].get(VERSION_LABEL) == target.version
        and "deletionTimestamp" not in pod["metadata"]
    ]
    live = [pod for pod in pods if not has_ended(pod)] or pods
    newest = max(live, key=lambda pod: pod["metadata"].get("creationTimestamp", ""), default=None)
    template = newest["metadata"]["labels"].get(TEMPLATE_LABEL) if newest else None
    return [pod for pod in live if pod["metadata"]["labels"].get(TEMPLATE_LABEL) == template]


def _available(rollout: Rollout, wanted: bool, at_zero: bool = False) -> Extra:
    """Some version answers; `wanted`: all pods that there are have the wanted one."""
    if rollout.available > 0:
        text = f"{rollout.available} {'pod answers' if rollout.available == 1 else 'pods answer'}"
        if not wanted:
            text += ", not all of them with the wanted version"
        return Extra(AVAILABLE, True, "Answering", text)
    if at_zero:
        return Extra(AVAILABLE, False, "ScaledToZero", "replicas is 0")
    return Extra(AVAILABLE, False, "NoPodReady", "no pod answers")


def _fields(
    owner: Owner, spec: ModelSpec, replicas: int, target: Target, rollout: Rollout
) -> dict[str, object]:
    fields: dict[str, object] = {"replicasReady": f"{rollout.ready}/{replicas}"}
    if target.artifact is not None:
        fields |= {
            "version": target.version,
            "artifact": target.artifact.to_json_dict(),
            "accuracy": target.accuracy,
            "url": service_url(owner, spec),
            "replicas": rollout.replicas,
            "updatedReplicas": rollout.updated,
            "readyReplicas": rollout.ready,
            "selector": f"{NAME_LABEL}={owner.name},{UID_LABEL}={owner.uid}",
        }
    return fields
