"""What a request brought to be predicted, and its answers: one way for all protocols of tensors."""

from collections.abc import Sequence
from dataclasses import dataclass

from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.engines.engine import Floats, NotFinite
from lepton_workloads.serve.http import HttpError
from lepton_workloads.serve.model import BadPicture, Model


@dataclass(frozen=True, slots=True)
class Inputs:
    """Numbers, or picture files that must be decoded."""

    field: str
    """Where they were found, for errors."""
    tensor: Floats | None = None
    pictures: Sequence[bytes] = ()


async def answers(
    model: Model, field: str, tensor: Floats | None, pictures: Sequence[bytes], caller: Caller
) -> Floats:
    """Probabilities (N, labels) for what was found in `field`.

    Raises:
        HttpError: 400 naming the field, 503 and 504 as `Model.predict`.
    """
    try:
        if tensor is None:
            return await model.predict_pictures(pictures, caller)
        return await model.predict(tensor, caller)
    except BadPicture as error:
        raise HttpError(400, f"{field}[{error.index}] can't be used: {error.message}") from None
    except NotFinite:
        message = f"{field}: the network has no finite answer to these numbers; they are too large"
        raise HttpError(400, message) from None
