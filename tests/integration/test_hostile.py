"""Strange names, thousands of labels, pods that say anything: all is explained, nothing breaks, nothing grows."""

import json

from tests.integration import plays
from tests.integration.explained import unexplained
from tests.integration.kube import Object, conditions, until
from tests.integration.objects import dataset, model, training_job
from tests.integration.plays import Play, Pod
from tests.integration.sandbox import Lab, Sandbox

NAMES = ("constructor", "true", "null", "nan", "e", "x1e5", "spec", "a" * 40, "lepton-store", "default")
REFERENCES = ("false", "undefined", "tostring", "x" * 40)
LABELS = {f"example.com/label-{number}": "x" * 63 for number in range(2000)}

SAYINGS = {
    "nothing": "",
    "long": "x" * 30_000,
    "lines": "\n" * 5000 + "the end",
    "control": "\x1b[31mred\x00\x07" * 500,
    "script": "写真🙂\u202eabc" * 2000,
    "nested": "[" * 20_000,
    "nan": '{"version": 1, "train": {"testLoss": NaN}, "prepare": NaN}',
    "path": '{"version": 1, "prepare": {"key": "../../etc"}, "train": {"digest": "../../etc"}}',
    "reason": json.dumps({"version": 1, "reason": "A" * 70, "message": "odd"}),
    "words": json.dumps({"version": 1, "reason": "not a word", "message": "odd"}),
    "message": json.dumps({"version": 1, "reason": "InvalidData", "message": "写" * 1500, "terminal": True}),
}


def settled_in_words(box: Sandbox) -> None:
    """Wait until every object is explained, and check that no visit broke."""

    def open_questions() -> list[str]:
        return [text for obj in box.lepton_objects() for text in unexplained(obj)]

    until(
        lambda: not open_questions(),
        lambda: "an explanation of each:\n" + "\n".join(open_questions()[:20]) + f"\n{box.report()}",
        120,
    )
    broken = [line[:2000] for line in box.operator.log().splitlines() if '"Reconcile failed"' in line]
    assert not broken, broken[:3]
    assert box.operator.total("lepton_reconcile_errors_total", reason="Invalid") == 0


def test_names_that_mean_something_elsewhere_are_names(lab: Lab) -> None:
    with lab.sandbox("names") as box:
        box.operator.start()
        for name in NAMES:
            box.create(dataset(name), training_job(name, name), model(name, name, replicas=1))
        box.wait_settled()
        settled_in_words(box)
        for number, name in enumerate(REFERENCES):
            box.create(model(f"unmet-{number}", job=name))
        settled_in_words(box)


def many_labels(obj: Object) -> Object:
    """The object with as much metadata as the server takes."""
    meta = {"labels": LABELS, "annotations": {"example.com/note": "写" * 80_000}}
    return obj | {"metadata": obj["metadata"] | meta}


def test_thousands_of_labels_are_the_users_own(lab: Lab) -> None:
    with lab.sandbox("labels") as box:
        box.operator.start()
        box.create(*map(many_labels, (dataset(), training_job(), model())))
        box.wait_settled()
        settled_in_words(box)
        for kind in ("Job", "Deployment", "Service", "Pod"):
            for child in box.all(kind):
                assert not LABELS.keys() & child["metadata"]["labels"].keys(), child["metadata"]["name"]
        for obj in box.lepton_objects():
            assert obj["metadata"]["labels"] == LABELS


def saying(code: int) -> Play:
    """A pod says what its owner's name calls for, and ends with that exit code."""

    async def play(pod: Pod) -> None:
        text = SAYINGS[plays.label(pod, plays.NAME_LABEL).rpartition("-")[2]]
        await (plays.exits(code, text) if code else plays.says(text))(pod)

    return play


def test_whatever_pods_say_is_told_in_short(lab: Lab) -> None:
    with lab.sandbox("sayings") as box:
        box.operator.start()
        box.create(dataset())
        box.wait_settled()
        box.script.dataset, box.script.training = saying(3), saying(1)
        for word in SAYINGS:
            box.create(dataset(f"bad-{word}", backoffLimit=0), training_job(f"bad-{word}", backoffLimit=0))

        def ended() -> bool:
            objects = [obj for obj in box.lepton_objects() if obj["metadata"]["name"].startswith("bad-")]
            return all(conditions(obj).get("Stalled", {}).get("status") == "True" for obj in objects)

        until(ended, box.report, 120)
        settled_in_words(box)
        for obj in box.lepton_objects():
            for row in conditions(obj).values():
                assert row["message"].isprintable(), row
        named = conditions(box.get("LeptonDataset", "bad-message"))["Ready"]
        assert named["reason"] == "InvalidData"


def test_a_result_that_is_none_is_not_believed(lab: Lab) -> None:
    """And it is not asked for again and again."""
    with lab.sandbox("results") as box:
        box.operator.start()
        box.create(dataset())
        box.wait_settled()
        box.script.dataset, box.script.training = saying(0), saying(0)
        for word in ("nan", "path", "nested"):
            box.create(dataset(f"none-{word}"), training_job(f"none-{word}", backoffLimit=0))
        for word in ("nan", "path", "nested"):
            for kind in ("LeptonDataset", "LeptonTrainingJob"):
                box.wait_reason(kind, f"none-{word}", "InternalError")
        settled_in_words(box)
        until(box.operator.is_idle, "that the operator rests")
        assert len(box.all("Job")) == 7
        assert sum(call.verb == "POST" and call.resource == "jobs" for call in box.proxy.writes()) == 7
