"""LitServe: requests are gathered into batches for one worker."""

from typing import Any

import litserve
import numpy as np
from fastapi import Request

from engines import NAME, PORT, load
from pictures import instance


class Network(litserve.LitAPI):
    """One instance in each request."""

    def setup(self, device: str) -> None:
        """In the worker's process."""
        self.engine = load()

    def decode_request(self, request: Request) -> Any:
        """The network's input; what is handed over as a `Request` is its JSON."""
        return instance(request["instances"][0])

    def batch(self, inputs: list[Any]) -> Any:
        """Inputs side by side."""
        return np.stack(inputs)

    def predict(self, x: Any) -> Any:
        """All of a batch."""
        return self.engine(x)

    def unbatch(self, output: Any) -> Any:
        """One answer for each request."""
        return list(output)

    def encode_response(self, output: Any) -> Any:
        """As TensorFlow Serving answers."""
        return {"predictions": [output.tolist()]}


if __name__ == "__main__":
    api = Network(max_batch_size=32, batch_timeout=0.005, api_path=f"/v1/models/{NAME}:predict")
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, timeout=60)
    server.run(
        host="127.0.0.1", port=PORT, num_api_servers=1, generate_client_file=False, log_level="warning"
    )
