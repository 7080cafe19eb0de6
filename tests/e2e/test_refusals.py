"""A wrong manifest is refused by `kubectl apply`, with a sentence that says what to write."""

from typing import Any

import pytest

from demo.display import DemoError
from tests.e2e.cluster import Namespace, dataset, manifest, model, training_job

PVC = {"claimName": "photos"}
SHA = "0" * 64
SECRET = {"secretKeyRef": {"name": "s", "key": "k"}}
TWO = {"minReplicas": 1, "maxReplicas": 2}
ALARM = {"name": "seven", "labels": ["7"], "sink": {"url": "http://alarms.example/lepton"}}
EMPTY_DIR = {"mountPath": "/data", "emptyDir": {}}
OWN_CODE = {"type": "custom", "custom": {"image": "example.com/trainer:1", "command": ["train"]}}


def variable(**row: Any) -> dict[str, Any]:
    """A model with one variable of its own in its pods."""
    return model(podTemplate={"env": [row]})


def volume(**row: Any) -> dict[str, Any]:
    """A model with one volume more in its pods."""
    return model(podTemplate={"volumes": [{"name": "code", "mountPath": "/code"} | row]})


def alarm(**row: Any) -> dict[str, Any]:
    """A model with one alarm."""
    return model(alarms=[ALARM | row])


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "dataset without source": (dataset(source={}), "set exactly one of source.builtin and source.pvc"),
    "dataset with two sources": (dataset(source={"builtin": "digits", "pvc": PVC}), "exactly one"),
    "unknown built-in data": (dataset(source={"builtin": "mnist"}), 'supported values: "digits"'),
    "path that leaves the claim": (dataset(source={"pvc": PVC | {"path": "../other"}}), "must not hold '..'"),
    "split above one": (
        dataset(split={"train": 0.8, "validation": 0.3, "test": 0.1}),
        "must add up to 1, for example 0.8, 0.1 and 0.1",
    ),
    "unknown field": (dataset(colour="blue"), 'unknown field "colour"'),
    "dataset with a dotted name": (dataset("a.b"), "metadata.name must start with a letter"),
    "name that is too long": (dataset("a" * 41), "at most 40 characters"),
    "quantity that is none": (
        dataset(resources={"requests": {"cpu": "many"}}),
        "write for example 500m, 2 or 2Gi",
    ),
    "training without dataset": (
        manifest("LeptonTrainingJob", "t", {"workers": 1}),
        'missing required field "dataset"',
    ),
    "batch that can't be shared": (
        training_job(workers=3),
        "training.batchSize must be a multiple of workers",
    ),
    "unknown optimizer": (training_job(training={"optimizer": "magic"}), 'supported values: "adam"'),
    "no convolution": (training_job(network={"convolutions": []}), "spec.network.convolutions"),
    "zero epochs": (training_job(training={"epochs": 0}), "greater than or equal to 1"),
    "model without source": (
        manifest("LeptonModel", "m", {"source": {}}),
        "set exactly one of source.trainingJob",
    ),
    "address without checksum": (
        model(source={"uri": "https://example.com/m.tar.gz"}),
        "needs sha256: write the sha256 of the archive",
    ),
    "address of another kind": (model(source={"uri": "ftp://example.com/m"}), "uri must be pvc://CLAIM/PATH"),
    "checksum that is none": (
        model(source={"uri": "https://example.com/m.tar.gz", "sha256": "abc"}),
        "64 lower-case hexadecimal digits",
    ),
    "checksum of a training job": (
        model(source={"trainingJob": {"name": "cnn"}, "sha256": SHA}),
        "sha256 goes with uri",
    ),
    "negative replicas": (model(replicas=-1), "spec.replicas"),
    "replicas and autoscaling": (
        model(replicas=2, autoscaling=TWO),
        "replicas and autoscaling exclude each other: remove one of them",
    ),
    "autoscaling to zero": (
        model(autoscaling=TWO | {"minReplicas": 0}),
        "autoscaling does not scale to zero: write minReplicas: 1 or more",
    ),
    "fewest above most": (
        model(autoscaling=TWO | {"minReplicas": 3}),
        "autoscaling.maxReplicas must be at least minReplicas",
    ),
    "autoscaling without a request": (
        model(autoscaling=TWO, resources={"requests": {"memory": "64Mi"}}),
        "set resources.requests.cpu, for example 100m",
    ),
    "label of Lepton": (
        training_job(podTemplate={"labels": {"lepton.ai/uid": "other"}}),
        "podTemplate.labels must leave lepton.ai/*",
    ),
    "label of all managers": (
        dataset(podTemplate={"labels": {"app.kubernetes.io/managed-by": "me"}}),
        "use a key of your own, for example example.com/team",
    ),
    "annotation of Lepton": (
        model(podTemplate={"annotations": {"lepton.ai/template": "x"}}),
        "podTemplate.annotations must leave lepton.ai/*",
    ),
    "label key that is none": (
        model(podTemplate={"labels": {"no spaces": "x"}}),
        "a key of podTemplate.labels must be a name of letters",
    ),
    "label value that is none": (
        model(podTemplate={"labels": {"team": "a b"}}),
        "a value of podTemplate.labels must be letters",
    ),
    "node selector that can't be": (
        model(podTemplate={"nodeSelector": {"zone": "-"}}),
        "a value of podTemplate.nodeSelector must be letters",
    ),
    "variable of Lepton": (variable(name="LEPTON_TASK", value="{}"), "LEPTON_*, JOB_COMPLETION_INDEX and"),
    "variable of the trainer": (
        variable(name="TF_CONFIG", value="{}"),
        "are set by Lepton: use another name",
    ),
    "variable without a value": (variable(name="A"), "set exactly one of value and valueFrom"),
    "variable with two values": (
        variable(name="A", value="1", valueFrom=SECRET),
        "set exactly one of value and valueFrom",
    ),
    "variable that can't be": (variable(name="a b", value="1"), "a variable's name starts with a letter"),
    "variable given twice": (
        model(podTemplate={"env": [{"name": "A", "value": "1"}, {"name": "A", "value": "2"}]}),
        "Duplicate value",
    ),
    "variables from nowhere": (
        model(podTemplate={"envFrom": [{"prefix": "A_"}]}),
        "set exactly one of secretRef and configMapRef",
    ),
    "variables with Lepton's prefix": (
        model(podTemplate={"envFrom": [{"prefix": "LEPTON_", "secretRef": {"name": "s"}}]}),
        "use another prefix in envFrom",
    ),
    "toleration of nothing": (
        model(podTemplate={"tolerations": [{"value": "x"}]}),
        "a toleration without a key needs operator: Exists",
    ),
    "toleration of any value, with one": (
        model(podTemplate={"tolerations": [{"key": "a", "operator": "Exists", "value": "x"}]}),
        "leave value out, or write operator: Equal",
    ),
    "toleration for a time, of all effects": (
        model(podTemplate={"tolerations": [{"key": "a", "tolerationSeconds": 5}]}),
        "tolerationSeconds goes with effect: NoExecute only",
    ),
    "volume of the node": (volume(hostPath={"path": "/"}), 'unknown field "hostPath"'),
    "volume without a source": (volume(), "set exactly one of emptyDir, persistentVolumeClaim, secret"),
    "volume with two sources": (
        volume(emptyDir={}, configMap={"name": "c"}),
        "set exactly one of emptyDir, persistentVolumeClaim, secret",
    ),
    "volume with Lepton's name": (volume(name="store", emptyDir={}), "is none of Lepton's own (store,"),
    "volume over Lepton's folders": (
        volume(mountPath="/lepton/models", emptyDir={}),
        "mountPath must not be /tmp",
    ),
    "volume over the scratch folder": (volume(mountPath="/tmp", emptyDir={}), "mountPath must not be /tmp"),
    "volume over the termination message": (
        volume(mountPath="/dev/termination-log", emptyDir={}),
        "(but /dev/shm may be): write for example /data",
    ),
    "volume at a relative path": (volume(mountPath="data", emptyDir={}), "mountPath is an absolute path"),
    "volume at a path that climbs": (
        volume(mountPath="/data/../lepton", emptyDir={}),
        "mountPath is an absolute path without '.', '..'",
    ),
    "volume's sub-path that climbs": (
        volume(subPath="../other", emptyDir={}),
        "subPath is relative to the volume's root",
    ),
    "volume's file that climbs": (
        volume(configMap={"name": "c", "items": [{"key": "k", "path": "a/../../b"}]}),
        "write for example settings.json",
    ),
    "volume of no size": (volume(emptyDir={"sizeLimit": "0"}), "sizeLimit is a number with Ki, Mi, Gi or Ti"),
    "two volumes at one place": (
        model(podTemplate={"volumes": [EMPTY_DIR | {"name": "a"}, EMPTY_DIR | {"name": "b"}]}),
        "two entries of podTemplate.volumes have the same mountPath",
    ),
    "own code without the program": (
        training_job(network={"type": "custom"}),
        "network.type: custom goes with network.custom (image and command)",
    ),
    "own code beside Lepton's network": (
        training_job(network={"custom": {"image": "example.com/trainer:1", "command": ["train"]}}),
        "network.type: custom goes with network.custom (image and command)",
    ),
    "cross-validation of own code": (
        training_job(network=OWN_CODE, evaluation={"crossValidation": {"folds": 3}}),
        "your own code does these itself",
    ),
    "8 bits in TensorFlow": (
        model(precision="int8", engine="tensorflow"),
        "precision: int8 goes with engine: litert only: write engine: litert, or precision: float32",
    ),
    "engine that there is not": (model(engine="onnx"), 'supported values: "litert", "tensorflow"'),
    "precision that there is not": (model(precision="int4"), 'supported values: "float32", "int8"'),
    "more accuracy lost than there is": (model(maxAccuracyDrop=1.5), "less than or equal to 1"),
    "no time for a request": (model(timeoutSeconds=0), "greater than or equal to 1"),
    "requests without a bound": (model(maxRequestMegabytes=1000), "less than or equal to 64"),
    "tokens and key in one Secret": (
        model(security={"tokenSecret": {"name": "s"}, "tlsSecret": {"name": "s"}}),
        "keep the tokens in a Secret of their own",
    ),
    "Secret that can't be": (
        model(security={"tokenSecret": {"name": "My Secret"}}),
        "no object has such a name",
    ),
    "alarm without a sink": (
        model(alarms=[{"name": "a", "labels": ["7"]}]),
        'missing required field "sink"',
    ),
    "alarm of no class": (alarm(labels=[]), "spec.alarms[0].labels"),
    "alarm with a name that is none": (alarm(name="Seven Seen"), "write for example seven-seen"),
    "two alarms of one name": (model(alarms=[ALARM, ALARM]), "Duplicate value"),
    "alarm at a probability above one": (alarm(threshold=1.5), "less than or equal to 1"),
    "alarm that is told to a file": (
        alarm(sink={"url": "file:///tmp/alarms"}),
        "sink.url must be http://HOST/PATH or https://HOST/PATH",
    ),
    "alarm that is told with a password": (
        alarm(sink={"url": "https://me:secret@alarms.example/"}),
        "without name and password",
    ),
    "alarm of a label with a line break": (alarm(labels=["seven\n"]), "must hold no control characters"),
    "alarm of too much text": (alarm(labels=["x" * 253] * 4), "make two alarms of it"),
    "drift in a handful of pictures": (model(drift={"window": 10}), "greater than or equal to 500"),
    "requests kept outside their folder": (
        model(requestLog={"claimName": "kept", "path": "../other"}),
        "requestLog.path is relative to the claim's root",
    ),
    "requests kept on a claim that can't be": (
        model(requestLog={"claimName": "My Claim"}),
        "no claim has such a requestLog.claimName",
    ),
    "requests kept nowhere": (model(requestLog={}), 'missing required field "claimName"'),
    "no request kept at all": (
        model(requestLog={"claimName": "kept", "sample": 0}),
        "spec.requestLog.sample",
    ),
    "service account of choice": (
        model(podTemplate={"serviceAccountName": "admin"}),
        'unknown field "serviceAccountName"',
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_manifest_is_refused_with_what_to_write(shared: Namespace, case: str) -> None:
    obj, sentence = REFUSED[case]
    assert sentence in shared.refused(obj)


def test_a_training_job_is_fixed_once_created(shared: Namespace) -> None:
    shared.apply(training_job())
    sentence = shared.refused(training_job(training={"epochs": 2, "batchSize": 64}))
    assert "create a job with a new name" in sentence
    assert "configured" in shared.apply(training_job(backoffLimit=5))
    shared.run("delete", "ltj", "cnn")


def test_its_pods_are_fixed_with_a_training_job(shared: Namespace) -> None:
    affinity = {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}}
    shared.apply(training_job("placed", podTemplate={"affinity": affinity, "labels": {"team": "a"}}))
    for changed in (
        {"affinity": affinity, "labels": {"team": "b"}},
        {"affinity": {}, "labels": {"team": "a"}},
    ):
        sentence = shared.refused(training_job("placed", podTemplate=changed))
        assert "create a job with a new name" in sentence
    shared.run("delete", "ltj", "placed")


def test_an_autoscaled_model_is_not_scaled_by_hand(shared: Namespace) -> None:
    shared.apply(model("auto", autoscaling=TWO), model("fixed"))
    with pytest.raises(DemoError, match="change minReplicas and maxReplicas"):
        shared.run("scale", "lm/auto", "--replicas=2")
    shared.run("scale", "lm/fixed", "--replicas=2")
    assert shared.get("lm", "fixed")["spec"]["replicas"] == 2
    shared.run("delete", "lm", "auto", "fixed")


def test_an_affinity_that_does_not_exist_is_told(shared: Namespace) -> None:
    """It is open in the schema: what is in it only the API server's own checks know."""
    unknown = {"affinity": {"nodeAffinty": {}}}
    shared.apply(
        dataset("typo", podTemplate=unknown),
        model("typo", source={"uri": "pvc://nowhere/model"}, podTemplate=unknown),
    )
    for kind in ("lds", "lm"):
        assert "nodeAffinty" in shared.wait_reason(kind, "typo", "AdmissionDenied")["message"]
    shared.run("delete", "lds,lm", "typo")
