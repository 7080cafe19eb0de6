"""What the demo shows and applies, without a cluster."""

import json
import sys
from typing import Any

import pytest

from demo import setup
from demo.display import Deadline, DemoError, Display, bar
from demo.flow import progress
from demo.install import overlay
from demo.setup import Step, run_together


@pytest.mark.parametrize(
    ("done", "total", "share"), [(0, 0, "0%"), (0, 4, "0%"), (1, 4, "25%"), (4, 4, "100%"), (9, 4, "100%")]
)
def test_a_bar_never_leaves_its_frame(done: int, total: int, share: str) -> None:
    text = bar(done, total)
    assert text.endswith(share)
    assert len(text.split("]")[0]) == 25


def job(**status: Any) -> dict[str, Any]:
    row = {"type": "Succeeded", "observedGeneration": 1, "reason": "Training", "message": "it trains"}
    return {
        "kind": "LeptonTrainingJob",
        "metadata": {"generation": 1},
        "status": {"conditions": [row], **status},
    }


def test_progress_shows_epochs_as_a_bar_and_else_the_reason() -> None:
    assert progress({}) == "not seen by the operator yet"
    assert progress(job()) == "Training: it trains"
    line = progress(
        job(progress={"phase": "Training", "epoch": "1/4", "step": 5, "steps": 10}, loss=0.5, accuracy=0.9)
    )
    assert "38%" in line
    assert "epoch 1/4, loss 0.5, accuracy 0.9" in line


def test_the_overlay_names_images_and_settings() -> None:
    images = {"operator": "r:5000/lepton-operator:1", "trainer": "t:2", "server": "s:3"}
    found = json.loads(overlay(images, {"LEPTON_STORE_CLASS": "fast"}))
    assert found["images"] == [
        {"name": "lepton-operator", "newName": "r:5000/lepton-operator", "newTag": "1"}
    ]
    (generator,) = found["configMapGenerator"]
    assert set(generator["literals"]) == {
        "LEPTON_TRAINER_IMAGE=t:2",
        "LEPTON_SERVER_IMAGE=s:3",
        "LEPTON_STORE_CLASS=fast",
    }


def test_the_overlay_names_an_image_for_tensorflow_where_there_is_one() -> None:
    images = {"operator": "o:1", "trainer": "t:2", "server": "s:3", "tensorflow-server": "f:4"}
    (generator,) = json.loads(overlay(images, {}))["configMapGenerator"]
    assert "LEPTON_TENSORFLOW_SERVER_IMAGE=f:4" in generator["literals"]


def test_a_deadline_says_what_did_not_happen() -> None:
    with pytest.raises(DemoError, match="The start did not happen within -1 s: see the logs"):
        Deadline(-1, "The start").tick("see the logs")


def test_a_failing_step_shows_its_last_words_and_ends_the_others(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(setup, "LOGS", tmp_path)
    bad = Step("bad", [sys.executable, "-c", "import sys; print('3 of 9'); sys.exit('no space left')"])
    slow = Step("slow", ["/bin/sh", "-c", "sleep 600 & wait"])
    with pytest.raises(DemoError, match="no space left"):
        run_together(Display(), [slow, bad])
    assert slow.process is not None
    assert slow.process.poll() is not None


def test_what_a_step_counts_becomes_a_bar(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(setup, "LOGS", tmp_path)
    step = Step("build", ["true"])
    step.log.write_text("cluster: Compiled 723 of 2893 packages\n")
    assert "25%" in step.line()
