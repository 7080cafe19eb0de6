"""The engine behind an HTTP server, and nothing else: no checks, no metrics, no queue; tensors in, tensors out."""

from typing import Any

import numpy as np
import uvicorn

from engines import PORT, SHAPE, load

predict = load()


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answers one request."""
    parts = []
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        if not message.get("more_body"):
            break
    answer = predict(np.frombuffer(b"".join(parts), "<f4").reshape(1, *SHAPE)).tobytes()
    headers = [(b"content-type", b"application/octet-stream"), (b"content-length", b"%d" % len(answer))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


if __name__ == "__main__":
    uvicorn.run(
        app, host="127.0.0.1", port=PORT, loop="uvloop", http="httptools", lifespan="off", ws="none",
        log_config=None, access_log=False,
    )  # fmt: skip
