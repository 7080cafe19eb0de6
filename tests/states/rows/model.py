"""All that can be said of a LeptonModel."""

from dataclasses import replace
from typing import Any

from lepton_operator.actions import Plan
from lepton_operator.conditions import timestamp
from lepton_operator.facts import Observed
from lepton_workloads.contract.outcome import DriftFigures, Failure, Report
from tests.states.row import Row, Stand, deleted, edited
from tests.states.rows.pods import (
    BEFORE_START,
    CREATING,
    DISRUPTED,
    ENDS,
    LOST_END,
    ON_SILENT_NODE,
    REFUSALS,
    REFUSED_PODS,
    End,
    PodSituation,
    named,
    refusal,
)
from tests.unit.builders import (
    DIGEST,
    NOW,
    STARTED,
    Obj,
    condition,
    decide,
    ended,
    failed_text,
    is_ready,
    manifest_of,
    model,
    observe,
    pod,
    succeeded_job,
    training_job,
    waits,
    warning,
    written,
)

GOING, STARTING, WAITING, STALLED, DONE = (
    Stand.GOING, Stand.STARTING, Stand.WAITING, Stand.STALLED, Stand.DONE,
)  # fmt: skip

FEW = ("False", "TooFewSamples")
ANSWERING, AT_ZERO = ("True", "Answering"), ("False", "ScaledToZero")
NEW_DIGEST = "ef" * 32
VERSION, NEW_VERSION = DIGEST[:12], NEW_DIGEST[:12]

FAILURES = (
    named(Failure.STORAGE_FAILED, "copying the version failed"),
    named(Failure.DOWNLOAD_FAILED, "the host of the archive does not answer"),
    named(Failure.SOURCE_NOT_FOUND, "the folder of the version is not on the claim"),
    named(Failure.INTERNAL_ERROR, "something that Lepton does not know"),
)
"""The container is started again and may end better."""

TERMINAL_FAILURES = (
    named(Failure.CHECKSUM_MISMATCH, "the version is not what its checksum says", terminal=True),
    named(Failure.INVALID_DATA, "the file is no model", terminal=True),
    named(Failure.INVALID_SPEC, "the path leads out of the claim", terminal=True),
    named(
        Failure.QUANTIZATION_GATE_NOT_PASSED,
        "the 8-bit network loses 0.02 of its accuracy, and 0.005 is allowed",
        terminal=True,
    ),
    named(Failure.DOWNLOAD_FAILED, "the host of the archive refuses", terminal=True),
)
"""It would end alike until a person acts."""


def live(plan: Plan, replicas: int, updated: int, ready: int, **extra: Any) -> Obj:
    """The Deployment as the plan wants it, with its controller's figures."""
    manifest = manifest_of(plan, "Deployment")
    metadata = manifest["metadata"] | {"generation": 1, "uid": "uid-deployment"}
    figures = {"replicas": replicas, "updatedReplicas": updated, "readyReplicas": ready}
    status = {"observedGeneration": 1, **figures, "availableReplicas": ready} | extra
    return {**manifest, "metadata": metadata, "status": status}


def server(deployment: Obj, version: str = VERSION, **parts: Any) -> Obj:
    """A pod of a version."""
    one = pod(deployment, **parts)
    one["metadata"]["labels"]["lepton.ai/version"] = version
    return one


def world(
    replicas: int, updated: int, ready: int, *pods: Obj, spec: Obj | None = None, **facts: Any
) -> Observed:
    """A model of a job that succeeded, its Deployment with these figures, and pods with these parts."""
    obj = model(**spec or {})
    source = {"training_job": succeeded_job()} if "trainingJob" in obj["spec"]["source"] else {}
    deployment = live(decide(observe(obj, **source)), replicas, updated, ready)
    made = [server(deployment, name=f"answers-{at}", **parts) for at, parts in enumerate(pods)]
    return observe(obj, deployment, *made, **source, **facts)


def after_visit(facts: Observed) -> Observed:
    """The same after the operator's visit."""
    return written(facts, decide(facts))


def waiting_for(*conditions: Obj) -> Observed:
    """A model whose training job says that."""
    return observe(model(), training_job=training_job() | {"status": {"conditions": list(conditions)}})


def up(replicas: int = 1) -> Observed:
    """The wanted version is up."""
    spec = {"replicas": replicas}
    return world(replicas, replicas, replicas, *[{"containers": [STARTED]}] * replicas, spec=spec)


def job_trains_anew() -> Observed:
    """The training job was deleted, and one of its name trains."""
    again = training_job() | {"status": {"conditions": [condition("Succeeded", "Unknown", "Training")]}}
    return replace(after_visit(up()), training_job=again)


def with_spec(facts: Observed, **spec: Any) -> Observed:
    """The same with another spec, and the status that the object had."""
    obj = model(**spec) | {"status": facts.object["status"]}
    obj["metadata"]["generation"] = 2
    return replace(facts, object=obj)


def scaling_to_zero() -> Observed:
    """The pods end, and none answers any more."""
    obj, job = model(replicas=0), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0)
    return observe(obj, deployment, training_job=job)


def new_version(*pods: Obj, replicas: int = 2, updated: int = 1) -> Observed:
    """The job has another version; the old one answers, pods of the new one have these parts."""
    facts = replace(after_visit(up()), training_job=succeeded_job(NEW_DIGEST))
    deployment = live(decide(facts), replicas, updated, 1)
    old = server(deployment, name="old", containers=[STARTED], conditions=[is_ready()])
    new = [server(deployment, NEW_VERSION, name="new", **parts) for parts in pods]
    return observe(facts.object, deployment, old, *new, training_job=facts.training_job)


def unseen_scale() -> Observed:
    """The Deployment's controller has not seen its last change."""
    facts = up()
    deployment = dict(facts.children["Deployment", "answers"])
    deployment["metadata"] = deployment["metadata"] | {"generation": 2}
    return observe(facts.object, deployment, *facts.pods, training_job=facts.training_job)


def refused_by_set() -> Observed:
    """The Deployment says that its pods are refused."""
    obj, job = model(), succeeded_job()
    failure = {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota: small"}
    return observe(
        obj, live(decide(observe(obj, training_job=job)), 0, 0, 0, conditions=[failure]), training_job=job
    )


def autoscaled(replicas: int, ready: int) -> Observed:
    """The autoscaler has asked for so many pods, and so many answer."""
    obj, job = model(autoscaling={"minReplicas": 1, "maxReplicas": 10}), succeeded_job()
    deployment = live(decide(observe(obj, training_job=job)), replicas, replicas, ready)
    scaled = {**deployment, "spec": {**deployment["spec"], "replicas": replicas}}
    return observe(obj, scaled, training_job=job)


def without_figures(
    seconds: float, reason: str = "FailedGetResourceMetric", kind: str = "ScalingActive"
) -> Observed:
    """Its autoscaler has said for so long that it can't work, while all pods answer."""
    facts = autoscaled(3, 3)
    plan = decide(facts)
    since = timestamp(NOW - seconds)
    row = {
        "type": kind,
        "status": "False",
        "reason": reason,
        "message": "no metrics returned",
        "lastTransitionTime": since,
    }
    scaler = {**manifest_of(plan, "HorizontalPodAutoscaler"), "status": {"conditions": [row]}}
    return observe(facts.object, *facts.children.values(), scaler, training_job=facts.training_job)


def gave_up() -> Observed:
    """The Deployment's controller has waited for progressDeadlineSeconds."""
    obj, job = model(), succeeded_job()
    row = {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded"}
    deployment = live(decide(observe(obj, training_job=job)), 1, 1, 0, conditions=[row])
    return observe(obj, deployment, training_job=job)


def unreadable() -> Observed:
    """A spec that another version's CRD let in, while a version answers."""
    facts = after_visit(up())
    return observe({**facts.object, "spec": {"replicas": -1}}, *facts.children.values(), *facts.pods)


def in_8_bits(int8: float | None = 0.95) -> Observed:
    """Its job's version has so good an 8-bit network, and that is asked for."""
    return observe(model(precision="int8"), training_job=judged_job(DIGEST, int8))


def judged_job(digest: str, int8: float | None) -> Obj:
    """A training job that tells how good its version is in 8 bits."""
    figures = {"int8Accuracy": int8, "floatAccuracy": 0.97}
    job = succeeded_job(digest)
    job["status"]["metrics"] = {name: value for name, value in figures.items() if value is not None}
    return job


def new_version_in_8_bits() -> Observed:
    """The version in 8 bits answers, and the job has another one that loses more."""
    obj, job = model(precision="int8"), judged_job(DIGEST, 0.969)
    plan = decide(observe(obj, training_job=job))
    deployment = live(plan, 1, 1, 1)
    facts = observe(obj, deployment, server(deployment, containers=[STARTED]), training_job=job)
    return replace(after_visit(facts), training_job=judged_job(NEW_DIGEST, 0.95))


def watching(figures: DriftFigures | None, heard: bool = True) -> Observed:
    """It answers and watches for drift; its pod tells this."""
    facts = world(1, 1, 1, {"containers": [STARTED], "conditions": [is_ready()]}, spec={"drift": {}})
    report = Report(owner_uid="uid-answers", phase="Serving", drift=figures)
    return replace(facts, reports={"uid-answers-0": report} if heard else {})


def figures(samples: int, drifting: bool = False, **indexes: float) -> DriftFigures:
    """What a pod tells of drift."""
    return DriftFigures(samples=samples, drifting=drifting, indexes=indexes)


def of_pod(one: PodSituation) -> Row:
    """The only pod can't work."""
    facts = world(1, 1, 0, one.parts)
    return Row(one.situation, WAITING, one.reason, one.within(facts))


def of_end(one: End) -> Row:
    """The server has ended, and is about to be started again."""
    facts = world(1, 1, 0, {"containers": [STARTED | {"ready": False, "lastState": one.container["state"]}]})
    return Row(f"{one.situation}; it is started again", WAITING, one.reason, facts)


def of_fetch(one: End, terminal: bool = False) -> Row:
    """The init container that fetches the version has failed."""
    facts = world(1, 1, 0, {"phase": "Pending", "init": [one.container]})
    return Row(one.situation, STALLED if terminal else WAITING, one.reason, facts)


def of_refusal(situation: str, reason: str, message: str) -> Row:
    """The Service can't be made."""
    refused = refusal(reason, message, "Service", "answers")
    return Row(situation, WAITING, reason, observe(model(), training_job=succeeded_job(), refusals=refused))


def of_refused_pods(situation: str, reason: str, message: str) -> Row:
    """The Deployment is there, its pods are not."""
    told = warning("ReplicaSet", "answers-5d4f", "FailedCreate", message)
    return Row(situation, WAITING, reason, world(0, 0, 0, warnings=(told,)))


LOOPING = {"containers": [waits("CrashLoopBackOff", restartCount=4, lastState=ended(1, "boom")["state"])]}
SILENT = {"containers": [STARTED | {"ready": False}]}
RAN = {"state": {"running": {"startedAt": timestamp(NOW - 60)}}, "ready": False, "started": True}
KILLED = ended(137)["state"]["terminated"] | {"startedAt": timestamp(NOW - 60)}
NO_MORE = {"type": "ContainersReady", "status": "False", "lastTransitionTime": timestamp(NOW - 1)}
PROBES = (
    PodSituation(
        "the server runs and does not get ready", "ProbeFailing", {"containers": [RAN]},
        told=(("Unhealthy", "Readiness probe failed: HTTP probe failed with statuscode: 503"),),
    ),
    PodSituation(
        "the server was ready and is no more", "ProbeFailing",
        {"containers": [RAN], "conditions": [NO_MORE]},
        told=(("Unhealthy", "Readiness probe failed: connection refused"),),
    ),
    PodSituation(
        "the server hangs and is ended by the kubelet", "ProbeFailing",
        {"containers": [STARTED | {"ready": False, "restartCount": 1, "lastState": {"terminated": KILLED}}]},
        told=(("Unhealthy", "Liveness probe failed: context deadline exceeded"),),
    ),
)  # fmt: skip
SECRETS = (
    PodSituation(
        "the Secret of the bearer tokens is missing", "VolumeNotReady", CREATING,
        told=(("FailedMount", 'MountVolume.SetUp failed for volume "tokens" : secret "visitors" not found'),),
    ),
    PodSituation(
        "the Secret of the certificate has other keys", "VolumeNotReady", CREATING,
        told=(("FailedMount",
               'MountVolume.SetUp failed for volume "tls" : references non-existent secret key: tls.crt'),),
    ),
)  # fmt: skip
MISMATCH = {
    "init": [
        ended(3, failed_text("ChecksumMismatch", "model.tflite is not what SHA256SUMS says", terminal=True))
    ]
}
BY_URI = {"source": {"uri": "pvc://models/a"}}

SERVING = Row("exactly the wanted version answers", DONE, "Serving", up(), ANSWERING)
ZERO = Row("replicas is 0", DONE, "ScaledToZero", up(0), AT_ZERO)

ROWS = (
    Row("just created, not seen yet", Stand.UNSEEN, "", observe(model())),
    Row("its training job does not exist", WAITING, "TrainingJobNotFound", observe(model())),
    Row("its training job was just created", GOING, "TrainingJobNotReady", waiting_for()),
    Row("its training job runs", GOING, "TrainingJobNotReady",
        waiting_for(condition("Succeeded", "Unknown", "Training"))),
    Row("its training job is stalled", WAITING, "TrainingJobNotReady",
        waiting_for(condition("Succeeded", "Unknown", "Unschedulable", "no node takes its pod"),
        condition("Stalled", "True"))),
    Row("its training job has failed", STALLED, "TrainingJobFailed",
        waiting_for(condition("Succeeded", "False", "Diverged", "the loss is NaN"),
                    condition("Stalled", "True"))),
    Row("a job of the same name trains anew while the old version answers", GOING,
        "TrainingJobNotReady", job_trains_anew(), ANSWERING),
    Row("its source names another job, which does not exist, while the old version answers", WAITING,
        "TrainingJobNotFound",
        replace(with_spec(after_visit(up()), source={"trainingJob": {"name": "other"}}), training_job=None),
        ANSWERING),
    Row("first visit: its children are made", STARTING, "RollingOut",
        observe(model(), training_job=succeeded_job())),
    Row("its pods start", STARTING, "RollingOut", world(1, 1, 0, CREATING)),
    Row("the Deployment's controller sees no progress any more", STALLED, "StartupDeadlineExceeded", gave_up()),
    Row("some of its pods answer", STARTING, "RollingOut", world(2, 2, 1, spec={"replicas": 2}), ANSWERING),
    Row("the Deployment's controller has not seen the last change", STARTING, "RollingOut",
        unseen_scale(), ANSWERING),
    Row("a new version rolls out while the old one answers", STARTING, "RollingOut",
        new_version(CREATING), ANSWERING),
    Row("a new version fails while the old one answers", STALLED, "ChecksumMismatch",
        new_version(MISMATCH), ANSWERING),
    Row("a new version crashes again and again while the old one answers", WAITING, "CrashLoop",
        new_version(LOOPING), ANSWERING),
    Row("the claim of its version is missing", WAITING, "SourceNotFound",
        world(1, 1, 0, spec=BY_URI, claims={"models": None})),
    Row("the claim of its version has lost its volume", WAITING, "VolumeNotReady",
        world(1, 1, 0, claims={"lepton-store": {"status": {"phase": "Lost"}}})),
    *(of_pod(one) for one in BEFORE_START),
    *(of_pod(one) for one in (*DISRUPTED, ON_SILENT_NODE)),
    *(of_end(one) for one in (*ENDS, LOST_END)),
    *(of_pod(one) for one in (*PROBES, *SECRETS)),
    Row("the server ends again and again", WAITING, "CrashLoop", world(1, 1, 0, LOOPING)),
    *(of_fetch(one) for one in FAILURES),
    *(of_fetch(one, terminal=True) for one in TERMINAL_FAILURES),
    *(of_refusal(*one) for one in REFUSALS),
    *(of_refused_pods(*one) for one in REFUSED_PODS),
    Row("the Deployment says that a quota has no room for its pods", WAITING, "QuotaExceeded",
        refused_by_set()),
    Row("a quota has no room for a pod while others answer", WAITING, "QuotaExceeded",
        world(1, 1, 1, spec={"replicas": 2},
              warnings=(warning("ReplicaSet", "answers-5d4f", "FailedCreate", "exceeded quota: small"),)),
        ANSWERING),
    SERVING,
    Row("its training job was deleted, the version goes on answering", DONE, "Serving",
        replace(after_visit(up()), training_job=None), ANSWERING),
    ZERO,
    Row("replicas is 0, and its pods end", STARTING, "RollingOut", scaling_to_zero(), AT_ZERO),
    Row("the autoscaler has asked for more pods than answer yet", STARTING, "RollingOut",
        autoscaled(3, 2), ANSWERING),
    Row("as many pods answer as the autoscaler asked for", DONE, "Serving", autoscaled(3, 3), ANSWERING),
    Row("the autoscaler has no figures yet", DONE, "Serving", without_figures(30), ANSWERING),
    Row("the autoscaler gets no figures", DONE, "AutoscalerFailing", without_figures(600), ANSWERING),
    Row("the autoscaler can't change the Deployment", DONE, "AutoscalerFailing",
        without_figures(600, "FailedGetScale", "AbleToScale"), ANSWERING),
    Row("the autoscaler rests at 0 replicas", DONE, "Serving",
        without_figures(600, "ScalingDisabled"), ANSWERING),
    Row("the 8-bit network of its version loses too much accuracy", STALLED, "QuantizationGateNotPassed",
        in_8_bits()),
    Row("its version has no 8-bit network", STALLED, "QuantizationGateNotPassed", in_8_bits(None)),
    Row("the 8-bit network of a new version loses too much accuracy while the old one answers", STALLED,
        "QuantizationGateNotPassed", new_version_in_8_bits(), ANSWERING),
    Row("it wants TensorFlow, and the operator's settings name no image with it", STALLED, "InvalidSpec",
        observe(model(engine="tensorflow"), training_job=succeeded_job())),
    Row("it watches for drift, and no pod has told anything yet", DONE, "Serving",
        watching(None, heard=False), ANSWERING, FEW),
    Row("it watches for drift, and has seen too few pictures", DONE, "Serving",
        watching(figures(120)), ANSWERING, FEW),
    Row("it watches for drift, and there is none", DONE, "Serving",
        watching(figures(1000, brightness=0.04, predicted=0.02)), ANSWERING, ("False", "NoDrift")),
    Row("it watches for drift, and there is some", DONE, "Serving",
        watching(figures(1000, True, brightness=0.61, predicted=0.23)), ANSWERING, ("True", "DriftDetected")),
    Row("it should watch for drift, and the version has nothing to compare with", DONE, "Serving",
        watching(None), ANSWERING, ("False", "NoReference")),
    Row("the spec can't be read by this version", STALLED, "InvalidSpec", unreadable(), ANSWERING),
    edited(SERVING),
    edited(of_fetch(TERMINAL_FAILURES[0], terminal=True)),
    deleted(SERVING),
)  # fmt: skip
