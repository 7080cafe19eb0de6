"""FastAPI as its users write it: plain functions, which it runs in its threads; numbers checked by pydantic."""

from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from fastapi.concurrency import run_in_threadpool
from pydantic import BaseModel

from engines import NAME, PORT, SHAPE, load
from pictures import read

predict = load()
app = FastAPI()


class Instances(BaseModel):
    """The body of a predict request."""

    instances: list[list[list[list[float]]]]


@app.post(f"/v1/models/{NAME}:predict")
def predict_json(body: Instances) -> dict[str, Any]:
    """Numbers in JSON."""
    return {"predictions": predict(np.asarray(body.instances, np.float32)).tolist()}


@app.post("/tensor")
async def predict_tensor(request: Request) -> Response:
    """One tensor's bytes."""
    tensor = np.frombuffer(await request.body(), "<f4").reshape(1, *SHAPE)
    answer = await run_in_threadpool(predict, tensor)
    return Response(answer.astype("<f4").tobytes(), media_type="application/octet-stream")


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    """A picture file."""
    data = await request.body()
    return {"predictions": (await run_in_threadpool(lambda: predict(read(data)[None]))).tolist()}


if __name__ == "__main__":
    uvicorn.run(app, host="127.0.0.1", port=PORT, access_log=False)
