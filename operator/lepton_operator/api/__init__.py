"""The three kinds as pydantic models: spec, status, rules, columns. `crdgen` makes the CRDs of them."""

from lepton_operator.api.dataset import DATASET, DatasetSpec
from lepton_operator.api.kind import GROUP, VERSION, Kind
from lepton_operator.api.model import MODEL, ModelSpec
from lepton_operator.api.training_job import TRAINING_JOB, TrainingJobSpec

KINDS: tuple[Kind, ...] = (DATASET, TRAINING_JOB, MODEL)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}

__all__ = [
    "DATASET",
    "GROUP",
    "KINDS",
    "KIND_BY_NAME",
    "MODEL",
    "TRAINING_JOB",
    "VERSION",
    "DatasetSpec",
    "Kind",
    "ModelSpec",
    "TrainingJobSpec",
]
