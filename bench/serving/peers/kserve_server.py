"""KServe's Python server with a model class of one's own, as its documentation shows it."""

import logging
from typing import Any

import numpy as np
from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from kserve.utils.utils import generate_uuid

from engines import NAME, OUTPUT, PORT, load
from pictures import instance


class Network(Model):
    """V1 in JSON, V2 with tensors."""

    def __init__(self) -> None:
        super().__init__(NAME)
        self.engine = load()
        self.ready = True

    def predict(self, payload: Any, headers: Any = None, response_headers: Any = None) -> Any:
        """Called by the server with a body that it has read."""
        if not isinstance(payload, InferRequest):
            batch = np.stack([instance(value) for value in payload["instances"]])
            return {"predictions": self.engine(batch).tolist()}
        answer = self.engine(payload.inputs[0].as_numpy())
        output = InferOutput(OUTPUT, list(answer.shape), "FP32")
        output.set_data_from_numpy(answer, binary_data=True)
        return InferResponse(payload.id or generate_uuid(), self.name, [output])


if __name__ == "__main__":
    server = ModelServer(http_port=PORT, enable_grpc=False, workers=1, enable_latency_logging=False)
    for name in ("kserve.trace", "uvicorn.access"):
        logging.getLogger(name).setLevel(logging.WARNING)
    server.start([Network()])
