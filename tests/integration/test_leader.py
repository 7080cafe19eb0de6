"""Two operators, one Lease: never two that write, whatever happens to the leader, and the work goes on."""

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

import pytest

from tests.integration import rights
from tests.integration.kube import until
from tests.integration.objects import chain, claim, served_model
from tests.integration.process import OperatorProcess
from tests.integration.proxy import Proxy
from tests.integration.sandbox import Lab, Sandbox
from tests.integration.traffic import Call, Fault, everything

MODELS = 6
EDIT_SECONDS = 0.1


class Replica:
    """One operator and its own way to the API server."""

    def __init__(self, operator: OperatorProcess, proxy: Proxy) -> None:
        self.operator = operator
        self.proxy = proxy

    @property
    def leads(self) -> bool:
        """What its metric says; False when it doesn't answer."""
        if not self.operator.is_running:
            return False
        status, text = self.operator.ask("/metrics")
        return status == 200 and "\nlepton_leader 1.0" in text

    def work(self) -> list[Call]:
        """Its writes, the Lease aside."""
        return [call for call in self.proxy.writes() if call.resource != "leases"]

    def reign(self) -> float:
        """When it asked for the Lease that it got first (monotonic seconds)."""
        calls = [
            call for call in self.proxy.writes() if call.resource == "leases" and call.code in (200, 201)
        ]
        assert calls, "it never held the Lease"
        return calls[0].at


@contextmanager
def pair(lab: Lab, name: str) -> Iterator[tuple[Sandbox, Replica, Replica]]:
    """A namespace with two operators: the first leads, the second is ready."""
    with lab.sandbox(name) as box:
        box.operator = operator = _operator(lab, box, "first", box.proxy)
        proxy = Proxy(lab.kube, lab.background)
        proxy.start()
        second = Replica(_operator(lab, box, "second", proxy), proxy)
        first = Replica(operator, box.proxy)
        try:
            first.operator.start()
            until(lambda: first.leads, "that the first leads")
            second.operator.start()
            yield box, first, second
        finally:
            second.operator.close()
            proxy.stop()


def _operator(lab: Lab, box: Sandbox, word: str, proxy: Proxy) -> OperatorProcess:
    kubeconfig = lab.scratch / f"{box.namespace}-{word}.kubeconfig"
    token = rights.new_token(lab.kube, box.namespace)
    rights.write_kubeconfig(kubeconfig, proxy.url, token, box.namespace)
    log = lab.scratch / f"{box.namespace}-{word}.log"
    settings = {"lease_namespace": box.namespace}
    return OperatorProcess(lab.background, kubeconfig, box.namespace, log, settings)


class Editor(threading.Thread):
    """Somebody who goes on editing models, until told to stop."""

    def __init__(self, box: Sandbox) -> None:
        super().__init__(daemon=True)
        self._box = box
        self._over = threading.Event()
        self._draw = random.Random(7)
        self.wanted = dict.fromkeys((f"m{number}" for number in range(MODELS)), 1)

    def run(self) -> None:
        """One edit after the other."""
        while not self._over.wait(EDIT_SECONDS):
            name = self._draw.choice(list(self.wanted))
            replicas = self._draw.randrange(0, 4)
            self._box.edit("LeptonModel", name, {"replicas": replicas})
            self.wanted[name] = replicas

    def end(self) -> dict[str, int]:
        """No more edits; what was wanted last."""
        self._over.set()
        if self.is_alive():
            self.join()
        return self.wanted

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()


def test_a_standby_is_ready_and_writes_nothing(lab: Lab) -> None:
    with pair(lab, "standby") as (box, first, second):
        box.create(*chain())
        box.wait_settled()
        assert second.operator.ask("/readyz")[0] == 200
        assert second.operator.ask("/healthz")[0] == 200
        assert not second.leads
        assert second.proxy.writes() == []
        # Its caches are as full as the leader's.
        until(
            lambda: (
                second.operator.total("lepton_cached_objects")
                >= first.operator.total("lepton_cached_objects")
            ),
            "that the standby's caches are as full as the leader's",
        )


@pytest.mark.parametrize("moment", ["anywhere", "while a write waits for its answer"])
def test_a_frozen_leader_that_thaws_writes_no_more(lab: Lab, moment: str) -> None:
    with pair(lab, "frozen") as (box, first, second):
        box.create(claim(), *(served_model(f"m{number}", replicas=1) for number in range(MODELS)))
        box.wait_settled()
        frozen = threading.Event()

        async def freeze(call: Call) -> None:
            if call.resource != "leases" and not frozen.is_set():
                first.operator.freeze()
                frozen.set()

        with Editor(box) as editor:
            editor.start()
            if moment == "anywhere":
                until(lambda: len(first.work()) > 40, "that the leader is busy")
                first.operator.freeze()
            else:
                first.proxy.after_write = freeze
                until(frozen.is_set, "a write to freeze at")
            until(lambda: len(second.work()) > 5, "that the other works")
            reign = second.reign()
            first.operator.thaw()
            assert first.operator.wait() == 1, first.operator.log()[-2000:]
            wanted = editor.end()
        late = [str(call) for call in first.work() if call.at >= reign]
        assert late == [], f"the old leader wrote in the other's time: {late}"
        check_end(box, wanted)


def check_end(box: Sandbox, wanted: dict[str, int]) -> None:
    """All models are Ready with the replicas of their last edit."""
    box.wait_settled()
    found = {
        name: (
            box.get("LeptonModel", name)["spec"]["replicas"],
            box.get("Deployment", name)["spec"]["replicas"],
        )
        for name in wanted
    }
    assert found == {name: (replicas, replicas) for name, replicas in wanted.items()}


def test_a_leader_that_is_cut_off_stops_before_another_begins(lab: Lab) -> None:
    with pair(lab, "cut-off") as (box, first, second):
        box.create(claim(), *(served_model(f"m{number}", replicas=1) for number in range(MODELS)))
        box.wait_settled()
        with Editor(box) as editor:
            editor.start()
            with first.proxy.disturbed(Fault(match=everything, hang=True)):
                last = first.work()[-1]
                until(lambda: second.leads, "that the other leads")
                assert first.operator.wait() == 1, first.operator.log()[-2000:]
            wanted = editor.end()
        late = [str(call) for call in first.work() if call.at >= second.reign()]
        assert late == [], f"it wrote in the other's time, last answered {last}: {late}"
        check_end(box, wanted)


def test_a_killed_leader_is_followed_and_a_stopped_one_at_once(lab: Lab) -> None:
    with pair(lab, "followed") as (box, first, second):
        box.create(*chain())
        until(lambda: box.children(), "the first child")
        first.operator.kill()
        box.wait_settled()
        assert second.leads
        first.operator.start()
        assert second.operator.terminate() == 0
        until(lambda: first.leads, "that the first leads again")
        assert "Gave the Lease back" in second.operator.log()
        box.edit("LeptonModel", "digits", {"replicas": 3})
        box.wait_settled()
        assert box.get("LeptonModel", "digits")["status"]["readyReplicas"] == 3


def test_of_two_that_start_together_one_writes(lab: Lab) -> None:
    with pair(lab, "together") as (box, first, second):
        first.operator.kill()
        second.operator.kill()
        box.create(*chain())
        before = len(first.work()), len(second.work())
        for replica in (first, second):
            replica.operator.start(wait=False)
        box.wait_settled()
        worked = [len(first.work()) - before[0], len(second.work()) - before[1]]
        assert min(worked) == 0, worked
        assert first.leads != second.leads
