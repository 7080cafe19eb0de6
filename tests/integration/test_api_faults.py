"""The API server fails in every way it can: the operator backs off, says so, and comes to the same end."""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import pytest

from tests.integration.kube import Object, until
from tests.integration.objects import chain
from tests.integration.proxy import Proxy
from tests.integration.sandbox import Lab, Sandbox
from tests.integration.traffic import Call, Fault, on, reads, watches, writes

HITS = 6
"""A fault is over once it has met so many calls."""
FIRST_TRIES = 6
TRIES_A_SECOND = 3
"""What backing off allows: the first tries are close to each other. A hot loop makes hundreds a second."""
RETRY_AFTER = 2


@dataclass(frozen=True)
class Trouble:
    """A fault of writes, reads or watches, and where the operator says so."""

    fault: Callable[[], Fault]
    metric: str
    log: str


INTERRUPTED = "Reconcile was interrupted"
BROKEN = "Watch was interrupted"
ERRORS = "lepton_reconcile_errors_total"
RESTARTS = "lepton_watch_restarts_total"

ON_WRITES = {
    "429": Trouble(
        lambda: Fault(writes, 429, {"Retry-After": str(RETRY_AFTER)}, "TooManyRequests"), ERRORS, INTERRUPTED
    ),
    "500": Trouble(
        lambda: Fault(writes, 500, reason="InternalError"), "lepton_child_refusals_total", "was refused"
    ),
    "503": Trouble(lambda: Fault(writes, 503, reason="ServiceUnavailable"), ERRORS, INTERRUPTED),
    "409": Trouble(lambda: Fault(writes, 409, reason="Conflict"), ERRORS, INTERRUPTED),
    "reset": Trouble(lambda: Fault(writes, reset=True), ERRORS, INTERRUPTED),
    "answer lost": Trouble(lambda: Fault(writes, lose=True), ERRORS, INTERRUPTED),
}
ON_WATCHES = {
    "429": Trouble(
        lambda: Fault(watches, 429, {"Retry-After": str(RETRY_AFTER)}, "TooManyRequests"), RESTARTS, BROKEN
    ),
    "500": Trouble(lambda: Fault(watches, 500, reason="InternalError"), RESTARTS, BROKEN),
    "503": Trouble(lambda: Fault(watches, 503, reason="ServiceUnavailable"), RESTARTS, BROKEN),
    "410": Trouble(lambda: Fault(watches, 410, reason="Expired"), RESTARTS, BROKEN),
    "reset": Trouble(lambda: Fault(watches, reset=True), RESTARTS, BROKEN),
}
ON_READS = {
    "429": Trouble(
        lambda: Fault(reads, 429, {"Retry-After": str(RETRY_AFTER)}, "TooManyRequests"), "", '"warning"'
    ),
    "500": Trouble(lambda: Fault(reads, 500, reason="InternalError"), "", '"warning"'),
    "503": Trouble(lambda: Fault(reads, 503, reason="ServiceUnavailable"), "", '"warning"'),
    "reset": Trouble(lambda: Fault(reads, reset=True), "", '"warning"'),
}


def check_pace(calls: list[Call], fault: Fault) -> None:
    """The same call was not sent faster than backing off allows."""
    times: dict[tuple[str, str], list[float]] = defaultdict(list)
    for call in calls:
        if fault.match(call):
            times[call.verb, call.path].append(call.at)
    for what, at in times.items():
        allowed = FIRST_TRIES + TRIES_A_SECOND * (at[-1] - at[0])
        assert len(at) <= allowed, f"{what}: {len(at)} times in {at[-1] - at[0]:.1f} s"


def check_retry_after(calls: list[Call], fault: Fault) -> None:
    """Who was told to wait waited."""
    told: dict[tuple[str, str], float] = {}
    for call in calls:
        what = (call.verb, call.path)
        if what in told:
            assert call.at - told.pop(what) >= 0.95 * RETRY_AFTER, f"{call} came too early"
        if call.code == 429 and fault.match(call):
            told[what] = call.at


def check_words(box: Sandbox, trouble: Trouble) -> None:
    """Metrics and logs say so."""
    if trouble.metric:
        assert box.operator.total(trouble.metric) > 0, trouble.metric
    assert trouble.log in box.operator.log()


@pytest.mark.parametrize("name", [*ON_WRITES])
def test_writes_that_fail_for_a_while(lab: Lab, name: str) -> None:
    trouble = ON_WRITES[name]
    fault = trouble.fault()
    with lab.sandbox(f"writes-{name}", forked=True) as box:
        box.operator.start()
        with box.proxy.disturbed(fault):
            box.create(*chain())
            until(lambda: fault.hits >= HITS, "some failures", 90)
            met = list(box.proxy.calls)
        check_pace(met, fault)
        if fault.code == 429:
            check_retry_after(met, fault)
        check_words(box, trouble)
        box.wait_dump(lab.chain_end())


@pytest.mark.parametrize("name", [*ON_WATCHES])
def test_watches_that_fail_for_a_while(lab: Lab, name: str) -> None:
    trouble = ON_WATCHES[name]
    fault = trouble.fault()
    with lab.sandbox(f"watches-{name}", forked=True) as box:
        box.operator.start()
        with box.proxy.disturbed(fault):
            box.proxy.cut_watches()
            box.create(*chain())
            until(lambda: fault.hits >= 5 * HITS, "some failures", 90)
            met = list(box.proxy.calls)
        check_pace(met, fault)
        check_words(box, trouble)
        box.wait_dump(lab.chain_end())


@pytest.mark.parametrize("name", [*ON_READS])
def test_reads_that_fail_at_the_start(lab: Lab, name: str) -> None:
    trouble = ON_READS[name]
    fault = trouble.fault()
    with lab.sandbox(f"reads-{name}", forked=True) as box:
        box.create(*chain())
        with box.proxy.disturbed(fault):
            box.operator.start(wait=False)
            until(lambda: fault.hits >= 2, "some failures", 90)
            until(lambda: box.operator.ask("/readyz")[0] == 503, "that it says it isn't ready")
            met = list(box.proxy.calls)
            assert not box.proxy.writes()
        check_pace(met, fault)
        box.wait_dump(lab.chain_end())
        check_words(box, trouble)


ERRORS_IN_WATCHES: dict[str, Object] = {
    "410": {"code": 410, "reason": "Expired", "message": "too old resource version"},
    "500": {"code": 500, "reason": "InternalError", "message": "etcdserver: leader changed"},
    "429": {"code": 429, "reason": "TooManyRequests", "message": "storage is (re)initializing"},
}


@pytest.mark.parametrize("name", [*ERRORS_IN_WATCHES, "cut"])
def test_watches_that_end_in_the_middle(lab: Lab, name: str) -> None:
    """kopf gives up on errors other than 410 in a stream: it is started again, and the operator lives on."""
    end = lab.chain_end()
    with lab.sandbox(f"stream-{name}", forked=True) as box:
        box.operator.start()
        pid = box.operator.pid
        box.create(*chain())
        for count in (3, 9, 15):
            until(partial(has_written, box, count), "some writes")
            end_watches(box.proxy, name)
        box.wait_dump(end)
        assert (box.operator.is_running, box.operator.pid) == (True, pid)
        if name in ("429", "500"):
            until(lambda: box.operator.total(RESTARTS, resource="kopf") > 0, "kopf's second life")
            assert ERRORS_IN_WATCHES[name]["message"] in box.operator.log()


def has_written(box: Sandbox, count: int) -> bool:
    """Whether the operator has sent so many writes."""
    return len(box.proxy.writes()) >= count


def end_watches(proxy: Proxy, name: str) -> None:
    """All at once, with an error or without a word."""
    if name == "cut":
        proxy.cut_watches()
        return
    status = {"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure"}
    proxy.tell_watches({"type": "ERROR", "object": status | ERRORS_IN_WATCHES[name]})


def test_a_write_that_goes_on_failing_shows_in_the_status(lab: Lab) -> None:
    with lab.sandbox("told", forked=True) as box:
        box.operator.start()
        with box.proxy.disturbed(Fault(on("POST", "jobs"), 503, reason="ServiceUnavailable")):
            box.create(*chain())
            row = box.wait_reason("LeptonDataset", "digits", "ApiError")
            assert "Job digits-data-" in row["message"]
            assert "made up by the test: 503" in row["message"]
            assert box.condition("LeptonDataset", "digits", "Reconciling")["status"] == "True"
        box.wait_dump(lab.chain_end())


def test_no_answer_at_all_for_a_while(lab: Lab) -> None:
    """Each write waits its own time-out; other objects are served meanwhile."""
    with lab.sandbox("silence", forked=True) as box:
        fault = Fault(on("POST", "jobs"), hang=True)
        box.operator.start()
        with box.proxy.disturbed(fault):
            box.create(*chain())
            until(lambda: fault.hits >= 2, "a second try after a time-out", 90)
        check_words(box, Trouble(lambda: fault, ERRORS, INTERRUPTED))
        box.wait_dump(lab.chain_end())


def test_an_expired_token_is_read_again_from_the_kubeconfig(lab: Lab) -> None:
    with lab.sandbox("expired", forked=True) as box:
        old = box.renew_token()
        box.operator.start()
        pid = box.operator.pid
        box.create(*chain())
        box.wait_settled()
        expired = Fault(lambda call: call.token.endswith(old), 401, reason="Unauthorized")
        with box.proxy.disturbed(expired):
            box.proxy.cut_watches()
            box.edit("LeptonModel", "digits", {"replicas": 3})
            until(lambda: expired.hits >= 3, "refused calls")
            met = list(box.proxy.calls)
            check_pace(met, expired)
            box.renew_token()
            until(lambda: box.find("Deployment", "digits")["spec"]["replicas"] == 3, "the edit", 90)  # type: ignore[index]
            box.wait_settled()
        assert "Logged in again" in box.operator.log()
        assert (box.operator.is_running, box.operator.pid) == (True, pid)


def test_a_status_that_changes_while_it_is_written_is_written_for_the_new_spec(lab: Lab) -> None:
    """409 by the server itself: a user's edit comes between the decision and the write."""
    with lab.sandbox("conflict", forked=True) as box:
        edited = threading.Event()

        async def edit_first(call: Call) -> None:
            if call.resource == "leptonmodels/status" and not edited.is_set():
                edited.set()
                await asyncio.to_thread(box.edit, "LeptonModel", "digits", {"replicas": 1})

        box.proxy.before_write = edit_first
        box.operator.start()
        box.create(*chain())
        box.wait_settled()
        assert any(call.code == 409 for call in box.proxy.writes())
        assert box.get("LeptonModel", "digits")["status"]["readyReplicas"] == 1
