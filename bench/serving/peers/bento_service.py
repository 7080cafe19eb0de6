"""BentoML: a service whose numbers are batched."""

from typing import Annotated, Any

import bentoml
import numpy as np
from bentoml.validators import ContentType

from engines import SHAPE, load
from pictures import read


@bentoml.service(workers=1, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Network:
    """The network."""

    def __init__(self) -> None:
        self.engine = load()

    @bentoml.api(batchable=True, max_batch_size=32, max_latency_ms=60_000)
    def predict(self, instances: np.ndarray) -> np.ndarray:
        """Numbers in JSON."""
        answer: np.ndarray = self.engine(np.asarray(instances, np.float32))
        return answer

    @bentoml.api
    def tensor(self, data: Annotated[bytes, ContentType("application/octet-stream")], /) -> list[Any]:
        """One tensor's bytes."""
        found: list[Any] = self.engine(np.frombuffer(data, "<f4").reshape(1, *SHAPE)).tolist()
        return found

    @bentoml.api
    def classify(self, data: Annotated[bytes, ContentType("image/jpeg")], /) -> list[Any]:
        """A picture file."""
        found: list[Any] = self.engine(read(data)[None]).tolist()
        return found
