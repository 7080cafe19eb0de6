"""Whether a version may be served as the spec says: are 8 bits good enough.

What may not is held back: the version wanted before goes on being served, with the engine and precision it had.
"""

from dataclasses import replace

from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.conditions import State, Verdict
from lepton_operator.decide.version import Target
from lepton_operator.facts import Json
from lepton_workloads.contract.serving import accuracy_drop, is_too_much


def settle(
    spec: ModelSpec, target: Target, pinned: ModelArtifact | None, model: Json
) -> tuple[Target, ModelSpec]:
    """What is served, and the spec with the engine and precision that it is served with."""
    problem = _gate(spec, target)
    if problem is not None:
        accuracy = (model.get("status") or {}).get("accuracy") if pinned else None
        target = Target(pinned, accuracy, target.waiting or problem)
        if pinned is not None:
            before = {"engine": pinned.engine or "litert", "precision": pinned.precision or "float32"}
            spec = spec.model_copy(update=before)
    if target.artifact is not None:
        noted = {"engine": spec.engine, "precision": spec.precision}
        target = replace(target, artifact=target.artifact.model_copy(update=noted))
    return target, spec


def _gate(spec: ModelSpec, target: Target) -> Verdict | None:
    """Of a training job's version; what another source holds is judged where it is fetched."""
    artifact = target.artifact
    if spec.precision != "int8" or artifact is None or artifact.training_job is None:
        return None
    small, full = artifact.int8_accuracy, artifact.float_accuracy
    if small is None or full is None:
        text = (
            f"LeptonTrainingJob {artifact.training_job} tells of no 8-bit network in version {target.version} (the "
            "version's metrics.json says why): write precision: float32, or name another job"
        )
        return Verdict(State.STALLED, "QuantizationGateNotPassed", text)
    drop = accuracy_drop(full, small)
    if not is_too_much(drop, spec.max_accuracy_drop):
        return None
    text = (
        f"the 8-bit network of version {target.version} has accuracy {small:.4g}, the 32-bit one {full:.4g} on the "
        f"same pictures: a drop of {drop:g}, and maxAccuracyDrop allows {spec.max_accuracy_drop:g}: raise "
        "maxAccuracyDrop, or write precision: float32"
    )
    return Verdict(State.STALLED, "QuantizationGateNotPassed", text)
