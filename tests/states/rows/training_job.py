"""All that can be said of a LeptonTrainingJob."""

from dataclasses import replace
from typing import Any

from lepton_operator.decide.attempt import MAX_DISRUPTIONS
from lepton_operator.facts import Observed
from lepton_workloads.contract.outcome import Failure
from tests.states.row import Row, Stand, deleted, edited
from tests.states.rows.pods import (
    BEFORE_START,
    DISRUPTED,
    ENDS,
    LOST_END,
    ON_SILENT_NODE,
    REFUSALS,
    REFUSED_PODS,
    End,
    PodSituation,
    named,
    pending,
    refusal,
)
from tests.unit.builders import (
    NOW,
    STARTED,
    Obj,
    condition,
    dataset,
    decide,
    ended,
    job_from,
    manifest_of,
    observe,
    pod,
    ready_dataset,
    succeeded_job,
    trained_text,
    training_job,
    waits,
    warning,
    written,
)

GOING, STARTING, WAITING, STALLED, ENDED, DONE = (
    Stand.GOING, Stand.STARTING, Stand.WAITING, Stand.STALLED, Stand.ENDED, Stand.DONE,
)  # fmt: skip

FAILURES = (
    named(Failure.PEERS_NOT_READY, "worker 1 has not come"),
    named(Failure.DATASET_NOT_READY, "the prepared copy is not on the claim"),
    named(Failure.STORAGE_FAILED, "no space is left on the claim"),
    named(Failure.INTERNAL_ERROR, "something that Lepton does not know"),
)
"""Another attempt may end better."""

TERMINAL_FAILURES = (
    named(Failure.DIVERGED, "the loss is no number any more", terminal=True),
    named(Failure.EXPORT_FAILED, "the trained network can't be exported", terminal=True),
    named(Failure.INVALID_DATA, "the prepared copy is not whole", terminal=True),
    named(Failure.INVALID_SPEC, "the network does not fit the pictures", terminal=True),
)
"""Another attempt would end alike."""

RUNNING = {"containers": [STARTED]}
LIMITED = {"activeDeadlineSeconds": 100}


def attempt(obj: Obj, *conditions: str) -> Obj:
    """The Job of the first attempt."""
    going = {**obj, "spec": {**obj["spec"], "suspend": False}}
    return job_from(manifest_of(decide(observe(going, dataset=ready_dataset()))), *conditions)


def world(*conditions: str, pods: tuple[Obj, ...] = (), spec: Obj | None = None, **facts: Any) -> Observed:
    """A training job, its first attempt with these conditions, and pods with these parts."""
    obj = training_job(**spec or {})
    job = attempt(obj, *conditions)
    made = [pod(job, at, **parts) for at, parts in enumerate(pods)]
    return observe(obj, job, *made, **facts)


def before(spec: Obj | None = None, status: Obj | None = None, **facts: Any) -> Observed:
    """No attempt has been made."""
    obj = training_job(**spec or {})
    return observe(obj | {"status": obj["status"] | (status or {})}, **facts)


def failed(container: Obj, wanted: Obj | None = None, **parts: Any) -> Observed:
    """The attempt has failed with its pod."""
    one = {"phase": "Failed", "containers": [container], **parts}
    return world("FailureTarget", "Failed", pods=(one,), spec=wanted)


def succeeded() -> Observed:
    """The chief has told its result."""
    one = {"phase": "Succeeded", "containers": [ended(0, trained_text(), "Completed")]}
    return world("Complete", pods=(one,))


def after_visit(facts: Observed, now: float = NOW) -> Observed:
    """The same after the operator's visit."""
    return written(facts, decide(facts, now))


def with_status(facts: Observed, **status: Any) -> Observed:
    """The same with these fields in its status."""
    obj = facts.object
    return replace(facts, object={**obj, "status": {**obj["status"], **status}})


def unready(stalled: bool, reason: str, message: str = "") -> Obj:
    """A dataset that isn't Ready."""
    rows = [condition("Ready", "False", reason, message), condition("Stalled", str(stalled))]
    return dataset() | {"status": {"observedGeneration": 1, "conditions": rows}}


def outdated_dataset() -> Obj:
    """A dataset that is Ready for the spec before its last change."""
    data = ready_dataset()
    data["metadata"]["generation"] = 2
    data["status"]["conditions"][0] |= {"reason": "Prepared"}
    return data


def unreadable() -> Observed:
    """A spec that another version's CRD let in."""
    obj = training_job()
    return observe({**obj, "spec": {**obj["spec"], "workers": 0}})


def forgotten_end() -> Observed:
    """The job has ended, and somebody removed its conditions."""
    facts = after_visit(failed(ended(1, "boom"), {"backoffLimit": 0}))
    return with_status(facts, conditions=[])


def of_pod(one: PodSituation) -> Row:
    """A pod that can't work."""
    facts = world(pods=(one.parts,))
    return Row(one.situation, WAITING, one.reason, one.within(facts))


def of_end(one: End) -> Row:
    """A container has ended, and the Job has not said so yet."""
    facts = world(pods=({"phase": "Failed", "containers": [one.container]},))
    return Row(f"{one.situation}; the attempt has not ended yet", WAITING, one.reason, facts)


def counted(one: End) -> Row:
    """The attempt has failed, and the limit is not reached."""
    situation = f"{one.situation}; the attempt is counted, another one follows"
    return Row(situation, GOING, one.reason, failed(one.container))


def last(one: End) -> Row:
    """The attempt has failed, and backoffLimit is reached."""
    reason = "BackoffLimitExceeded" if one.reason == "ContainerFailed" else one.reason
    facts = failed(one.container, {"backoffLimit": 0})
    return Row(f"{one.situation}; that was the last attempt (backoffLimit)", ENDED, reason, facts)


def terminal(one: End) -> Row:
    """The attempt has failed as any other would."""
    return Row(one.situation, ENDED, one.reason, failed(one.container))


def disrupted(one: PodSituation) -> Row:
    """The attempt was ended by its surroundings."""
    situation = f"{one.situation}; the attempt has ended, another one follows"
    return Row(situation, GOING, one.reason, failed(ended(143), {"backoffLimit": 0}, **one.parts))


def of_refusal(situation: str, reason: str, message: str) -> Row:
    """The Job can't be made."""
    facts = before(dataset=ready_dataset(), refusals=refusal(reason, message, "Job", "cnn-train-a1"))
    return Row(situation, WAITING, reason, facts)


def of_refused_pods(situation: str, reason: str, message: str) -> Row:
    """The Job is there, its pods are not."""
    told = warning("Job", "cnn-train-a1", "FailedCreate", message)
    return Row(situation, WAITING, reason, world(warnings=(told,)))


def queued() -> Observed:
    """The Job of the first attempt as a queue wants it."""
    obj = training_job()
    obj["metadata"]["labels"] = {"kueue.x-k8s.io/queue-name": "team-a"}
    return observe(obj, attempt(obj))


def judged(evaluation: Obj, **result: Any) -> Observed:
    """The training is done, and is to be judged so."""
    obj = training_job(evaluation=evaluation)
    job = attempt(obj, "Complete")
    one = {"phase": "Succeeded", "containers": [ended(0, trained_text(**result), "Completed")]}
    return observe(obj, job, pod(job, 0, **one))


def folding(*conditions: str, pods: tuple[Obj, ...] = ()) -> Observed:
    """The training is done, and the first fold has a Job with these conditions and pods."""
    facts = after_visit(judged(FOLDS))
    job = job_from(manifest_of(decide(facts)), *conditions)
    made = [pod(job, at, **parts) for at, parts in enumerate(pods)]
    return replace(facts, children={("Job", job["metadata"]["name"]): job}, pods=tuple(made))


def cross_validated(gate: Obj) -> Observed:
    """All folds are done: accuracies 0.9 and 0.8."""
    facts = judged(FOLDS | {"gate": {"metric": "crossValidationAccuracy"} | gate})
    rows = [{"fold": at, "attempt": 1, "accuracy": 0.9 - at / 10, "loss": 0.1} for at in range(2)]
    return with_status(after_visit(facts), evaluation={"folds": rows})


def warm(job: Obj | None, **spec: Any) -> Observed:
    """It begins with the weights of another job."""
    return before(
        {"warmStart": {"trainingJob": {"name": "older"}}, **spec}, dataset=ready_dataset(), training_job=job
    )


def unfinished(status: str, reason: str) -> Obj:
    """A training job with this condition."""
    return training_job() | {"status": {"conditions": [condition("Succeeded", status, reason, "so it is")]}}


FOLDS = {"crossValidation": {"folds": 2}}
GATE = {"gate": {"metric": "recall", "label": "7", "atLeast": 0.95}}
PAUSED = {"suspend": True}
SMALL = {"network": {"convolutions": [8] * 6}}
SUCCEEDED = Row("the version is there", DONE, "Succeeded", succeeded())
TRAINING = Row("all workers run", GOING, "Training", world(pods=(RUNNING,)))

ROWS = (
    Row("just created, not seen yet", Stand.UNSEEN, "", before()),
    Row("its dataset does not exist", WAITING, "DatasetNotFound", before()),
    Row("its dataset is being prepared", GOING, "DatasetNotReady",
        before(dataset=unready(False, "Preparing"))),
    Row("its dataset is stalled", WAITING, "DatasetNotReady",
        before(dataset=unready(True, "InvalidData", "30 of 100 files can't be read"))),
    Row("its dataset was changed and is prepared anew", GOING, "DatasetNotReady",
        before(dataset=outdated_dataset())),
    Row("the pictures are too small for the network", STALLED, "InvalidSpec",
        before(SMALL, dataset=ready_dataset())),
    Row("it begins with the weights of a job that does not exist", WAITING, "TrainingJobNotFound", warm(None)),
    Row("it begins with the weights of a job that goes on", GOING, "TrainingJobNotReady",
        warm(unfinished("Unknown", "Training"))),
    Row("it begins with the weights of a job that has failed", STALLED, "TrainingJobFailed",
        warm(unfinished("False", "Diverged"))),
    Row("it begins with a version on another claim", STALLED, "InvalidSpec",
        warm(succeeded_job(), storage={"claimName": "mine"})),
    Row("it watches a validation split that the dataset doesn't have", STALLED, "InvalidSpec",
        before({"training": {"earlyStopping": {}}}, dataset=ready_dataset() | {
            "spec": dataset(split={"train": 0.9, "validation": 0, "test": 0.1})["spec"]})),
    Row("suspended before its first attempt", GOING, "Suspended", before(PAUSED, dataset=ready_dataset())),
    Row("suspended while it trained", GOING, "Suspended", world(spec=PAUSED, pods=(RUNNING,))),
    Row("its Job waits for a queue", GOING, "Queued", queued()),
    Row("the first attempt is made", GOING, "Starting", before(dataset=ready_dataset())),
    Row("its workers start", STARTING, "Starting",
        world(spec={"workers": 2}, pods=(RUNNING, pending(waits("ContainerCreating"))))),
    TRAINING,
    Row("the store that the spec names is missing", WAITING, "SourceNotFound",
        world(spec={"storage": {"claimName": "mine"}}, claims={"mine": None})),
    Row("the store has lost its volume", WAITING, "VolumeNotReady",
        world(claims={"lepton-store": {"status": {"phase": "Lost"}}})),
    *(of_pod(one) for one in BEFORE_START),
    *(of_pod(one) for one in (*DISRUPTED, ON_SILENT_NODE)),
    *(of_end(one) for one in (*ENDS, *FAILURES)),
    *(of_refusal(*one) for one in REFUSALS),
    *(of_refused_pods(*one) for one in REFUSED_PODS),
    *(counted(one) for one in (*ENDS, *FAILURES)),
    *(disrupted(one) for one in DISRUPTED),
    Row(f"{LOST_END.situation}; another attempt follows", GOING, LOST_END.reason,
        failed(LOST_END.container, {"backoffLimit": 0}, spec={"nodeName": "node-2"})),
    Row("a pod uses more disk than its limit; the attempt is counted, another one follows", GOING, "Evicted",
        failed(ended(137), reason="Evicted", message="Container train exceeded its local ephemeral storage limit")),
    *(last(one) for one in (*ENDS, *FAILURES)),
    *(terminal(one) for one in TERMINAL_FAILURES),
    Row("the attempt has failed, its pods are not seen to have ended", GOING, "Restarting",
        world("Failed", pods=(RUNNING,))),
    Row("the Job of the attempt was deleted by hand", GOING, "Restarting",
        with_status(before(), observedGeneration=1, attempt=1)),
    Row("an attempt was counted, the next one waits for its time", GOING, "ContainerFailed",
        after_visit(failed(ended(1, "boom"))), now=NOW + 5),
    Row("the next attempt waits for its time, and the conditions were lost", GOING, "Restarting",
        with_status(after_visit(failed(ended(1, "boom"))), conditions=[]), now=NOW + 5),
    Row(f"disrupted {MAX_DISRUPTIONS} times", ENDED, "Evicted",
        with_status(failed(ended(143), **DISRUPTED[1].parts), disruptions=MAX_DISRUPTIONS - 1)),
    Row("not done after activeDeadlineSeconds", ENDED, "DeadlineExceeded",
        after_visit(world(spec=LIMITED, pods=(RUNNING,))), now=NOW + 100),
    Row("it has ended, and its conditions were lost", ENDED, "Failed", forgotten_end()),
    Row("all workers have ended, the result is being read", GOING, "Finishing",
        world("Complete", pods=(RUNNING,))),
    Row("the result was lost with its pod and is read again", GOING, "Restarting", world("Complete")),
    Row("the chief ended well and said nothing that can be read", GOING, "InternalError",
        world("Complete", pods=({"phase": "Succeeded", "containers": [ended(0, "done", "Completed")]},))),
    SUCCEEDED,
    Row("the version is there, the gate is passed", DONE, "Succeeded", judged(GATE, gate_value=0.96)),
    Row("the version is there, the gate is not passed", ENDED, "GateNotPassed", judged(GATE, gate_value=0.9)),
    Row("the version is there, the gate's figure can't be measured", ENDED, "GateNotPassed", judged(GATE)),
    Row("the version is there, the folds of the cross-validation begin", GOING, "CrossValidating", judged(FOLDS)),
    Row("a fold is being trained", GOING, "CrossValidating", folding(pods=(RUNNING,))),
    Row("a fold has failed; another attempt follows", GOING, "ContainerFailed",
        folding("FailureTarget", "Failed", pods=({"phase": "Failed", "containers": [ended(1, "boom")]},))),
    Row("the result of a fold was lost with its pod", GOING, "Restarting", folding("Complete")),
    Row("all folds are done, the gate over them is passed", DONE, "Succeeded", cross_validated({"atLeast": 0.85})),
    Row("all folds are done, the gate over them is not passed", ENDED, "GateNotPassed",
        cross_validated({"atLeast": 0.86})),
    Row("suspended while folds were trained", GOING, "Suspended",
        replace(folding(pods=(RUNNING,)), object={**folding().object, "spec": training_job(
            evaluation=FOLDS, suspend=True)["spec"]})),
    Row("succeeded; all children are gone", DONE, "Succeeded",
        observe(after_visit(succeeded()).object), now=NOW + 100_000),
    Row("the spec can't be read by this version", STALLED, "InvalidSpec", unreadable()),
    edited(TRAINING),
    edited(last(ENDS[1])),
    deleted(SUCCEEDED),
    deleted(TRAINING),
)  # fmt: skip
