"""Which of a file's outputs is the answer."""

from pathlib import Path

import numpy as np
import pytest

from lepton_workloads.serve.engines.litert import LiteRtEngine
from tests.unit.serving.support import SHAPE, TINY, litert

EXPLAINED = TINY.with_name("explained.tflite")


@pytest.mark.parametrize(("file", "name"), [(EXPLAINED, "probabilities"), (TINY, "any")])
def test_the_answer_is_the_output_of_that_name_or_the_only_one(file: Path, name: str) -> None:
    batch = np.random.default_rng(3).random((4, *SHAPE), np.float32)
    engine = LiteRtEngine(file, 1, name)
    assert (engine.input_shape, engine.output_size) == (SHAPE, 4)
    np.testing.assert_allclose(engine.predict(batch), litert(batch), atol=1e-6)


def test_an_answer_that_is_not_among_several_outputs_is_named() -> None:
    with pytest.raises(ValueError, match="a_copy, features, probabilities, z_copy, and none is 'scores'"):
        LiteRtEngine(EXPLAINED, 1, "scores")


def test_an_output_that_is_no_row_an_input_is_no_answer() -> None:
    with pytest.raises(ValueError, match="one row an input"):
        LiteRtEngine(EXPLAINED, 1, "features")
