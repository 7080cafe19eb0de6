"""The numbers of a training: into a checkpoint and out of it."""

from typing import Any

import numpy as np
import numpy.typing as npt

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError
from lepton_workloads.train.checkpoint import Arrays

Weights = list[npt.NDArray[Any]]


def state_of(model: Any, optimizer: Any, best: Weights | None) -> dict[str, npt.NDArray[Any]]:
    """All variables, and the best weights where they are kept (keras issue 19796: its formats leave some out)."""
    groups = {
        "model": _values(model.variables),
        "optimizer": _values(optimizer.variables),
        "best": best or [],
    }
    return {
        f"{group}/{number:05d}": value
        for group, values in groups.items()
        for number, value in enumerate(values)
    }


def restore_state(arrays: Arrays, model: Any, optimizer: Any) -> Weights | None:
    """Set all variables; returns the best weights, if there are any.

    Raises:
        WorkloadError: InternalError, when the variables are others: the trainer's image was changed.
    """
    variables = {"model": model.variables, "optimizer": optimizer.variables}
    wanted = {
        f"{group}/{number:05d}": variable
        for group, found in variables.items()
        for number, variable in enumerate(found)
    }
    best = [arrays[name] for name in sorted(arrays) if name.startswith("best/")]
    shapes = {name: tuple(variable.shape) for name, variable in wanted.items()}
    if shapes != {name: value.shape for name, value in arrays.items() if not name.startswith("best/")}:
        text = "the checkpoint's variables are not those of this network: was the trainer's image changed?"
        raise WorkloadError(Failure.INTERNAL_ERROR, text, terminal=False)
    for name, variable in wanted.items():
        variable.assign(arrays[name])
    return best or None


def set_weights(model: Any, weights: Weights) -> None:
    """Set all variables of the model."""
    for variable, value in zip(model.variables, weights, strict=True):
        variable.assign(value)


def get_weights(model: Any) -> Weights:
    """Copies of all variables of the model."""
    return [np.array(value) for value in _values(model.variables)]


def _values(variables: list[Any]) -> Weights:
    return [np.asarray(variable) for variable in variables]
