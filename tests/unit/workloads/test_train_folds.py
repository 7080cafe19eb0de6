"""One fold of a cross-validation: trained, judged on the part that was held out, kept."""

import json

from .conftest import Pod
from .training import outcome_of, task_of, train


def test_a_fold_is_judged_on_its_part_makes_no_version_and_is_kept(pod: Pod, key: str) -> None:
    samples = []
    for index in range(2):
        fold = {"index": index, "folds": 3}
        code, outcome, _ = train(pod, task_of(key, fold=fold, checkpoint={"everySteps": 5}))
        assert code == 0, outcome
        assert outcome.train is None
        result = outcome.fold
        assert result is not None
        assert (result.fold, result.epochs) == (index, 2)
        assert result.accuracy > 0.8
        samples.append(result.samples)
        folder = pod.checkpoints / f"folds/{index}"
        assert {path.name for path in folder.iterdir()} == {"metrics.json", "result.json"}
        metrics = json.loads((folder / "metrics.json").read_text())
        assert metrics["result"]["accuracy"] == result.accuracy
        # Another pod of the same fold has nothing to do.
        code, again, lines = train(pod, task_of(key, fold=fold, attempt=2))
        assert (code, again) == (0, outcome)
        assert "Finished epoch" not in {line["message"] for line in lines}
    manifest = json.loads((pod.datasets / key / "dataset.json").read_text())
    divided = sum(manifest["splits"][split]["samples"] for split in ("train", "validation"))
    assert all(abs(part - divided / 3) <= 10 for part in samples)
    assert list(pod.models.iterdir()) == []
    assert outcome_of(pod).fold is not None
