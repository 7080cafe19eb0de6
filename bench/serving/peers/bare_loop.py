"""The engine in a loop, without HTTP: `bare_loop.py SECONDS` prints inputs a second as JSON."""

import json
import sys
import time

import numpy as np

from engines import FOLDER, SHAPE, load

predict = load()
tensor = np.frombuffer((FOLDER / "tensor.bin").read_bytes(), "<f4").reshape(1, *SHAPE)
for _ in range(50):
    answer = predict(tensor)
seconds, count = float(sys.argv[1]), 0
begin = time.perf_counter()
while time.perf_counter() - begin < seconds:
    predict(tensor)
    count += 1
rate = count / (time.perf_counter() - begin)
print(json.dumps({"rate": rate, "answer": answer[0].tolist()}))
