"""Which version a model should serve: the one its source names now, else the one it serves already."""

import hashlib
from dataclasses import dataclass

from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.conditions import State, Verdict, conditions_by_type
from lepton_operator.facts import Json


@dataclass(frozen=True, slots=True)
class Target:
    """The version to serve, if there is one, and what is waited for, if anything."""

    artifact: ModelArtifact | None = None
    accuracy: float | None = None
    waiting: Verdict | None = None

    @property
    def version(self) -> str:
        """Short name: 12 hex digits of the digest, or of the address when the digest isn't known."""
        if self.artifact is None:
            return ""
        return (self.artifact.digest or hashlib.sha256((self.artifact.uri or "").encode()).hexdigest())[:12]


def find_target(spec: ModelSpec, pinned: ModelArtifact | None, job: Json | None, model: Json) -> Target:
    """The pinned version goes on being served while a wanted one isn't there."""
    if spec.source.uri is not None:
        return Target(_from_uri(spec.source.uri, spec.source.sha256))
    assert spec.source.training_job is not None, "the CRD's rules require one of both"
    name = spec.source.training_job.name
    accuracy = (model.get("status") or {}).get("accuracy")
    if job is not None and _has_succeeded(job) and (result := job["status"].get("result")):
        figures = job["status"].get("metrics") or {}
        artifact = ModelArtifact(
            digest=result["digest"],
            claim_name=result["claimName"],
            path=result["path"],
            training_job=name,
            training_job_uid=job["metadata"]["uid"],
            int8_accuracy=figures.get("int8Accuracy"),
            float_accuracy=figures.get("floatAccuracy"),
        )
        return Target(artifact, job["status"].get("accuracy"))
    if job is None and pinned is not None and pinned.training_job == name:
        return Target(pinned, accuracy)
    return Target(pinned, accuracy if pinned else None, _waiting_for(name, job))


def _has_succeeded(job: Json) -> bool:
    """A success is for ever, whatever generation it was told for."""
    return conditions_by_type(job).get("Succeeded", {}).get("status") == "True"


def _waiting_for(name: str, job: Json | None) -> Verdict:
    if job is None:
        text = f"LeptonTrainingJob {name} does not exist in this namespace: create it, or correct spec.source"
        return Verdict(State.WAITING, "TrainingJobNotFound", text)
    rows = conditions_by_type(job)
    succeeded = rows.get("Succeeded", {})
    said = f"({succeeded.get('reason')}): {succeeded.get('message')}"
    if succeeded.get("status") == "False":
        text = f"LeptonTrainingJob {name} failed {said}; name another job in spec.source"
        return Verdict(State.STALLED, "TrainingJobFailed", text)
    if rows.get("Stalled", {}).get("status") == "True":
        return Verdict(State.WAITING, "TrainingJobNotReady", f"LeptonTrainingJob {name} is stalled {said}")
    # Only its reason: its figures change often, and each change would be a write here, too.
    text = f"waits for LeptonTrainingJob {name} ({succeeded.get('reason', 'just created')})"
    return Verdict(State.PROGRESSING, "TrainingJobNotReady", text)


def _from_uri(uri: str, sha256: str | None) -> ModelArtifact:
    if uri.startswith("pvc://"):
        claim, _, path = uri.removeprefix("pvc://").partition("/")
        return ModelArtifact(digest=sha256, claim_name=claim, path=path, uri=uri)
    return ModelArtifact(digest=sha256, uri=uri)
