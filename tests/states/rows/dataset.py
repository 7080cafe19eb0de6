"""All that can be said of a LeptonDataset."""

from typing import Any

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
    STARTED,
    Obj,
    dataset,
    decide,
    ended,
    job_from,
    manifest_of,
    observe,
    pod,
    prepared_text,
    waits,
    warning,
    written,
)

GOING, STARTING, WAITING, STALLED, DONE = (
    Stand.GOING, Stand.STARTING, Stand.WAITING, Stand.STALLED, Stand.DONE,
)  # fmt: skip

FAILURES = (
    named(Failure.STORAGE_FAILED, "no space is left on the claim"),
    named(Failure.PEERS_NOT_READY, "another pod of the preparation has not come"),
    named(Failure.INTERNAL_ERROR, "something that Lepton does not know"),
)
"""Another try may end better."""

TERMINAL_FAILURES = (
    named(Failure.INVALID_DATA, "more files than allowed can't be read", terminal=True),
    named(Failure.SOURCE_NOT_FOUND, "the folder of the pictures is not on the claim", terminal=True),
)
"""Another try would end alike."""


def child(obj: Obj, *conditions: str) -> Obj:
    """The Job that the decision makes."""
    return job_from(manifest_of(decide(observe(obj))), *conditions)


def world(*conditions: str, pods: tuple[Obj, ...] = (), spec: Obj | None = None, **facts: Any) -> Observed:
    """A dataset, its Job with these conditions, and pods with these parts."""
    obj = dataset(**spec or {})
    job = child(obj, *conditions)
    made = [pod(job, at, **parts) for at, parts in enumerate(pods)]
    return observe(obj, job, *made, **facts)


def prepared(**extra: Any) -> Observed:
    """The Job has completed, with its result."""
    container = ended(0, prepared_text(**extra), "Completed")
    return world("Complete", pods=({"phase": "Succeeded", "containers": [container]},))


def after_visit(facts: Observed) -> Observed:
    """The same after the operator's visit."""
    return written(facts, decide(facts))


def with_spec(facts: Observed, **spec: Any) -> Observed:
    """The same with another spec, and the status that the object had."""
    obj = dataset(**spec) | {"status": facts.object["status"]}
    obj["metadata"]["generation"] = 2
    return observe(obj, *facts.children.values(), *facts.pods)


def unreadable() -> Observed:
    """A spec that another version's CRD let in."""
    obj = dataset()
    return observe({**obj, "spec": {**obj["spec"], "format": "csv"}})


def of_pod(one: PodSituation) -> Row:
    """A pod that can't work."""
    facts = world(pods=(one.parts,))
    return Row(one.situation, WAITING, one.reason, one.within(facts))


def of_end(one: End, terminal: bool = False) -> Row:
    """A pod has failed, and the Job has neither made another one nor given up."""
    facts = world(pods=({"phase": "Failed", "containers": [one.container]},))
    return Row(f"{one.situation}; another try follows", STALLED if terminal else WAITING, one.reason, facts)


def gave_up(one: End) -> Row:
    """The Job has failed."""
    facts = world("Failed:BackoffLimitExceeded", pods=({"phase": "Failed", "containers": [one.container]},))
    return Row(f"{one.situation}; that was the last try", STALLED, one.reason, facts)


def of_refusal(situation: str, reason: str, message: str) -> Row:
    """The Job can't be made."""
    refused = refusal(reason, message, "Job", "digits-data")
    return Row(situation, WAITING, reason, observe(dataset(), refusals=refused))


def of_refused_pods(situation: str, reason: str, message: str) -> Row:
    """The Job is there, its pods are not."""
    facts = world()
    job = next(iter(facts.children.values()))
    told = warning("Job", job["metadata"]["name"], "FailedCreate", message)
    return Row(situation, WAITING, reason, observe(facts.object, job, warnings=(told,)))


RUNNING = {"containers": [STARTED]}
MINE = {"source": {"pvc": {"claimName": "photos"}}}
LIMITED = {"activeDeadlineSeconds": 3600}

PREPARED = Row("the copy is prepared", DONE, "Prepared", prepared())

ROWS = (
    Row("just created, not seen yet", Stand.UNSEEN, "", observe(dataset())),
    Row("first visit: the Job is made", GOING, "Preparing", observe(dataset())),
    Row(
        "its pods start", STARTING, "Preparing", world(pods=(pending(waits("ContainerCreating")),))
    ),
    Row("pictures are prepared", GOING, "Preparing", world(pods=(RUNNING,))),
    Row(
        "the claim of the source is missing", WAITING, "SourceNotFound",
        world(spec=MINE, claims={"photos": None}),
    ),
    Row(
        "the store that the spec names is missing", WAITING, "SourceNotFound",
        world(spec={"storage": {"claimName": "mine"}}, claims={"mine": None}),
    ),
    Row(
        "the store has lost its volume", WAITING, "VolumeNotReady",
        world(claims={"lepton-store": {"status": {"phase": "Lost"}}}),
    ),
    *(of_pod(one) for one in BEFORE_START),
    *(of_pod(one) for one in (*DISRUPTED, ON_SILENT_NODE)),
    *(of_end(one) for one in (*ENDS, LOST_END, *FAILURES)),
    *(of_end(one, terminal=True) for one in TERMINAL_FAILURES),
    *(of_refusal(*one) for one in REFUSALS),
    *(of_refused_pods(*one) for one in REFUSED_PODS),
    Row("the Job has completed, its pods are not seen to have ended", GOING, "Preparing",
        world("Complete", pods=(RUNNING,))),
    Row("the result was lost with its pods: the Job runs again", GOING, "Preparing", world("Complete")),
    Row("a pod ended well and said nothing that can be read", STALLED, "InternalError",
        world("Complete", pods=({"phase": "Succeeded", "containers": [ended(0, "done", "Completed")]},))),
    PREPARED,
    Row("prepared; some files could not be read", DONE, "Prepared", prepared(invalid_files=3)),
    Row("prepared; Job and pods are gone", DONE, "Prepared", observe(after_visit(prepared()).object)),
    Row("the Job has failed, its pods are not seen to have ended", GOING, "Preparing",
        world("Failed:BackoffLimitExceeded", pods=(RUNNING,))),
    *(gave_up(one) for one in (*ENDS, *FAILURES, *TERMINAL_FAILURES)),
    Row("its pods failed more often than allowed, and are gone", STALLED, "BackoffLimitExceeded",
        world("Failed:BackoffLimitExceeded")),
    Row("not done after activeDeadlineSeconds", STALLED, "DeadlineExceeded",
        world("Failed:DeadlineExceeded", spec=LIMITED)),
    Row("the spec can't be read by this version", STALLED, "InvalidSpec", unreadable()),
    Row("the spec was changed: another copy is prepared", GOING, "Preparing",
        with_spec(after_visit(prepared()), revision="2")),
    edited(PREPARED),
    edited(gave_up(TERMINAL_FAILURES[0])),
    deleted(PREPARED),
)  # fmt: skip
