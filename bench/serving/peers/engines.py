"""What a peer runs the network with: one function from float32 (N, 32, 32, 3) to (N, 10), one thread each."""

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("BENCH_NETWORK", "."))
ENGINE = os.environ.get("BENCH_ENGINE", "keras")
PORT = int(os.environ.get("BENCH_PORT", "0"))
NAME, INPUT, OUTPUT = "digits", "image", "probabilities"
SHAPE = (32, 32, 3)

Predict = Callable[[Any], Any]


def load() -> Predict:
    """The engine that the environment names."""
    return {"keras": _keras, "onnx": _onnx, "litert": _litert}[ENGINE]()


def _keras() -> Predict:
    import keras
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(1)
    tf.config.threading.set_inter_op_parallelism_threads(1)
    model = keras.saving.load_model(FOLDER / "root/lepton/model/model.keras")
    return lambda batch: model.predict(batch, verbose=0)


def _onnx() -> Predict:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    file = str(FOLDER / "model.onnx")
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda batch: session.run(None, {name: batch})[0]


def _litert() -> Predict:
    import numpy as np
    from ai_edge_litert.interpreter import Interpreter

    file = os.environ.get("BENCH_FILE", "model.tflite")
    interpreter = Interpreter(model_path=str(FOLDER / "root/lepton/model" / file), num_threads=1)
    interpreter.allocate_tensors()
    given = interpreter.get_input_details()[0]["index"]
    answer = interpreter.get_signature_runner().get_output_details()[OUTPUT]["index"]
    lock = threading.Lock()

    def predict(batch: Any) -> Any:
        rows = []
        with lock:
            for one in batch:
                interpreter.set_tensor(given, one[None])
                interpreter.invoke()
                rows.append(interpreter.get_tensor(answer)[0])
        return np.array(rows)

    return predict
