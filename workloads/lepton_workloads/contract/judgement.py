"""How a trained network is judged: evaluation and checkpoints of LeptonTrainingJob's spec."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import Record

GateMetric = Literal[
    "accuracy",
    "loss",
    "topKAccuracy",
    "precision",
    "recall",
    "f1",
    "expectedCalibrationError",
    "crossValidationAccuracy",
]
PER_LABEL = ("precision", "recall", "f1")
"""Metrics that a gate may ask of one label."""


class Gate(Record):
    """What the network must reach; else the job fails with GateNotPassed and its version is not promoted."""

    metric: Annotated[
        GateMetric,
        Field(
            description="Figure of the test split; precision, recall and f1 are the mean over the classes unless "
            "label is set; crossValidationAccuracy is the mean over the folds."
        ),
    ] = "accuracy"
    label: Annotated[
        str | None,
        Field(min_length=1, max_length=253, description="Of one class only: precision, recall or f1 of it."),
    ] = None
    at_least: Annotated[float | None, Field(ge=0, le=1e9, description="Passed from this value on.")] = None
    at_most: Annotated[float | None, Field(ge=0, le=1e9, description="Passed up to this value.")] = None

    cel_rules = (
        (
            "has(self.atLeast) != has(self.atMost)",
            "set exactly one of gate.atLeast and gate.atMost, for example atLeast: 0.9",
        ),
        (
            "!has(self.label) || self.metric in ['precision', 'recall', 'f1']",
            "gate.label goes with metric: precision, recall or f1, for example metric: recall, label: malignant",
        ),
    )

    def is_passed(self, value: float) -> bool:
        """Whether a figure is good enough."""
        if self.at_least is not None:
            return value >= self.at_least
        return self.at_most is not None and value <= self.at_most

    @property
    def demand(self) -> str:
        """The demand in words, for example `recall of malignant at least 0.95`."""
        what = f"{self.metric} of {self.label}" if self.label else self.metric
        if self.at_least is not None:
            return f"{what} at least {self.at_least:g}"
        return f"{what} at most {self.at_most:g}"


class CrossValidation(Record):
    """k-fold cross-validation over train and validation together; the test split stays out."""

    folds: Annotated[int, Field(ge=2, le=20, description="Parts, each held out once; one Job a fold.")] = 5
    parallelism: Annotated[int, Field(ge=1, le=20, description="Folds at the same time.")] = 1


class EvaluationSpec(Record):
    """How the network is judged."""

    top_k: Annotated[
        int,
        Field(
            ge=1, le=100, description="k of the top-k accuracy; with fewer classes it is the number of them."
        ),
    ] = 5
    cross_validation: Annotated[
        CrossValidation | None, Field(description="Cross-validation after the training; left out: none.")
    ] = None
    gate: Annotated[
        Gate | None, Field(description="What the network must reach to be served; left out: nothing.")
    ] = None

    cel_rules = (
        (
            "!has(self.gate) || self.gate.metric != 'crossValidationAccuracy' || has(self.crossValidation)",
            "gate.metric: crossValidationAccuracy needs evaluation.crossValidation, for example crossValidation: "
            "{folds: 5}",
        ),
    )


class CheckpointSpec(Record):
    """When the state is saved, from which a later attempt goes on."""

    every_epochs: Annotated[int, Field(ge=1, le=100_000, description="Epochs between two checkpoints.")] = 1
    every_steps: Annotated[
        int | None,
        Field(ge=1, le=1_000_000_000, description="Also after so many steps in an epoch, for long epochs."),
    ] = None
    keep: Annotated[int, Field(ge=1, le=20, description="Checkpoints that are kept of a running job.")] = 2
