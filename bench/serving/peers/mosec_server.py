"""mosec: requests are gathered into batches for one worker, which takes numbers, tensors and pictures alike."""

import json
import sys
from typing import Any

import numpy as np
from mosec import Server, Worker

from engines import PORT, SHAPE, load
from pictures import instance, read

sys.argv[1:] = ["--address=127.0.0.1", f"--port={PORT}", "--timeout=60000", "--capacity=1024"]


class Network(Worker):
    """One input in each request."""

    def __init__(self) -> None:
        super().__init__()
        self.engine = load()

    def deserialize(self, data: bytes) -> Any:
        """The network's input, by the first bytes of the body."""
        if data.startswith(b"{"):
            return instance(json.loads(data)["instances"][0])
        if data.startswith(b"\xff\xd8\xff"):
            return read(data)
        return np.frombuffer(data, "<f4").reshape(SHAPE)

    def forward(self, data: list[Any]) -> list[Any]:
        """All of a batch."""
        return [row.tolist() for row in self.engine(np.stack(data))]

    def serialize(self, data: Any) -> bytes:
        """As TensorFlow Serving answers."""
        return json.dumps({"predictions": [data]}).encode()


if __name__ == "__main__":
    server = Server()
    server.append_worker(Network, num=1, max_batch_size=32, max_wait_time=5)
    server.run()
