"""The second engine: a SavedModel, served by TensorFlow, answers as LiteRT does."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from tests.unit.serving.support import LABELS, SHAPE, TASK, Process, picture, png_input, write_artifact

PLAIN = [tf.TensorSpec((None, *SHAPE), tf.float32, name="pixels")]


class Network(tf.Module):
    """A strange one: it looks each picture up by a hash of its text, which LiteRT can't."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel = tf.Variable(
            np.random.default_rng(3).normal(size=(int(np.prod(SHAPE)), len(LABELS))), dtype="float32"
        )

    @tf.function(input_signature=PLAIN)
    def answer(self, pixels: Any) -> dict[str, Any]:
        """Probabilities, and an output that is not the answer."""
        flat = tf.reshape(pixels, (-1, int(np.prod(SHAPE))))
        bucket = tf.strings.to_hash_bucket_fast(tf.strings.as_string(tf.round(flat[:, 0] * 10)), 2)
        logits = tf.matmul(flat, self.kernel) / 10 + tf.cast(bucket[:, None], tf.float32)
        return {"probabilities": tf.nn.softmax(logits), "bucket": bucket}


def save(root: Path, module: Any, signature: Any) -> None:
    folder = root / "lepton" / "model"
    write_artifact(folder)
    tf.saved_model.save(module, str(folder / "saved_model"), signatures=signature)


@pytest.fixture(scope="module")
def network() -> Network:
    return Network()


@pytest.fixture(scope="module")
def tensorflow_served(tmp_path_factory: pytest.TempPathFactory, network: Network) -> Iterator[Process]:
    root = tmp_path_factory.mktemp("tensorflow")
    save(root, network, network.answer)
    task = TASK.model_copy(update={"engine": "tensorflow"})
    process = Process(root, LEPTON_TASK=task.to_json(), TF_CPP_MIN_LOG_LEVEL="2")
    try:
        yield process.wait_ready()
    finally:
        process.kill()


@pytest.mark.parametrize("count", [1, 5, 40])
def test_numbers_are_answered_as_the_saved_model_does(
    tensorflow_served: Process, network: Network, count: int
) -> None:
    inputs = np.random.default_rng(count).random((count, *SHAPE), np.float32)
    answer = tensorflow_served.predict({"instances": inputs.tolist()})
    expected = network.answer(tf.constant(inputs))["probabilities"].numpy()
    np.testing.assert_allclose(answer.json()["predictions"], expected, atol=1e-5)


def test_a_picture_is_answered(tensorflow_served: Process, network: Network) -> None:
    answer = tensorflow_served.ask(
        "POST", "/classify?top=4", picture("PNG", 5), {"Content-Type": "image/png"}
    )
    expected = network.answer(tf.constant(png_input(5)[None]))["probabilities"].numpy()[0]
    found = {row["label"]: row["probability"] for row in answer.json()["predictions"]}
    np.testing.assert_allclose([found[label] for label in LABELS], expected, atol=1e-5)


def outcome_of(root: Path) -> dict[str, Any]:
    task = TASK.model_copy(update={"engine": "tensorflow"})
    process = Process(root, LEPTON_TASK=task.to_json(), TF_CPP_MIN_LOG_LEVEL="2")
    try:
        code, outcome = process.outcome()
    finally:
        process.kill()
    assert code == 3
    assert outcome["reason"] == "InvalidData"
    return outcome


def test_a_folder_that_is_no_saved_model_ends_the_server(root: Path) -> None:
    (root / "lepton" / "model" / "saved_model").mkdir()
    assert "saved_model can't be used" in outcome_of(root)["message"]


def test_a_signature_of_several_inputs_ends_the_server(tmp_path: Path) -> None:
    class Two(tf.Module):
        @tf.function(input_signature=[*PLAIN, tf.TensorSpec((None, 2), tf.float32, name="more")])
        def answer(self, pixels: Any, more: Any) -> dict[str, Any]:
            return {"probabilities": tf.zeros((tf.shape(pixels)[0], len(LABELS))) + tf.reduce_sum(more)}

    module = Two()
    save(tmp_path, module, module.answer)
    assert "one input is needed, not 2" in outcome_of(tmp_path)["message"]
