"""One case: a namespace with the operator's minimal rights, its proxy, its operator, its script.

Cases don't touch each other, so they run side by side.
"""

import itertools
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from tests.integration import dump, rights
from tests.integration.background import Background
from tests.integration.kube import Kube, Object, conditions, is_settled, path_of, until
from tests.integration.objects import chain
from tests.integration.plays import Script
from tests.integration.process import OperatorProcess
from tests.integration.proxy import Proxy
from tests.integration.puppet import Puppet

SIDE_BY_SIDE = 6
"""Cases at the same time: a start of the operator costs more than a second of CPU."""
SETTLE_SECONDS = 120.0
QUIET_SECONDS = 3.0

API_VERSION = "lepton.ai/v1alpha1"
Case = TypeVar("Case")


class Sandbox:
    """See the module."""

    def __init__(self, lab: "Lab", namespace: str, settings: dict[str, str], forked: bool) -> None:
        self.kube = lab.kube
        self.puppet = lab.puppet
        self.namespace = namespace
        self.script: Script = lab.puppet.script(namespace)
        self.proxy = Proxy(lab.kube, lab.background)
        self.kubeconfig = lab.scratch / f"{namespace}.kubeconfig"
        log = lab.scratch / f"{namespace}.log"
        self.operator = OperatorProcess(
            lab.background, self.kubeconfig, namespace, log, settings, forked=forked
        )

    def open(self) -> None:
        """Make the namespace, the rights and the way to the API server; no operator runs yet."""
        rights.create_namespace(self.kube, self.namespace)
        self.proxy.start()
        self.renew_token()

    def close(self) -> None:
        """Everything goes; the namespace in the background."""
        self.operator.close()
        self.proxy.stop()
        self.kube.delete(f"/api/v1/namespaces/{self.namespace}")

    def renew_token(self) -> str:
        """A new token for the operator's kubeconfig."""
        token = rights.new_token(self.kube, self.namespace)
        rights.write_kubeconfig(self.kubeconfig, self.proxy.url, token, self.namespace)
        return token

    # -- objects --------------------------------------------------------------------------------------

    def path(self, kind: str, name: str, version: str | None = None) -> str:
        """URL path of an object."""
        return path_of(version or dump.KINDS[kind], kind, name, self.namespace)

    def create(self, *objects: Object) -> None:
        """As a user does."""
        for obj in objects:
            self.kube.create(obj, self.namespace)

    def edit(self, kind: str, name: str, spec: Object) -> None:
        """A merge patch of the spec."""
        self.kube.patch(self.path(kind, name), {"spec": spec})

    def delete(self, kind: str, name: str) -> None:
        """As a user does, dependants in the background."""
        self.kube.delete(self.path(kind, name))

    def find(self, kind: str, name: str) -> Object | None:
        """The object, or None."""
        return self.kube.find(self.path(kind, name))

    def get(self, kind: str, name: str) -> Object:
        """The object; it must be there."""
        found = self.find(kind, name)
        assert found is not None, f"{kind} {name} is not there"
        return found

    def all(self, kind: str) -> list[Object]:
        """All objects of a kind."""
        return dump.of_kind(self.kube, self.namespace, kind)

    def lepton_objects(self) -> list[Object]:
        """All Lepton objects."""
        return dump.lepton_objects(self.kube, self.namespace)

    def children(self) -> set[str]:
        """kind/name of all that Lepton made here, claims and pods aside."""
        kinds = ("Job", "Deployment", "Service", "PodDisruptionBudget")
        return {f"{kind}/{obj['metadata']['name']}" for kind in kinds for obj in self.all(kind)}

    def condition(self, kind: str, name: str, condition: str) -> Object:
        """One condition, empty before the first visit."""
        return conditions(self.get(kind, name)).get(condition, {})

    # -- waiting --------------------------------------------------------------------------------------

    def wait_settled(self, wanted: str = "True", deadline: float = SETTLE_SECONDS) -> None:
        """Until every Lepton object is done: Ready or Succeeded is `wanted`, for the present spec."""
        until(lambda: is_settled(self.lepton_objects(), wanted), self.report, deadline)

    def wait_reason(self, kind: str, name: str, reason: str, deadline: float = 60.0) -> Object:
        """Until the main condition has that reason; the condition."""
        main = "Succeeded" if kind == "LeptonTrainingJob" else "Ready"
        until(
            lambda: self.condition(kind, name, main).get("reason") == reason,
            lambda: f"{reason} of {kind} {name}\n{self.report()}",
            deadline,
        )
        return self.condition(kind, name, main)

    def wait_condition(self, kind: str, name: str, condition: str, deadline: float = 60.0) -> None:
        """Until a condition holds."""
        until(
            lambda: self.condition(kind, name, condition).get("status") == "True",
            lambda: f"{condition} of {kind} {name}\n{self.report()}",
            deadline,
        )

    def wait_logged(self, text: str, deadline: float = 60.0) -> None:
        """Until the operator has logged that."""
        until(lambda: text in self.operator.log(), lambda: f"{text} in the log\n{self.report()}", deadline)

    def wait_rests(self, deadline: float = SETTLE_SECONDS) -> None:
        """Until nothing happens any more, though not all may be done: no visit, no event, no running play.

        Controllers of Kubernetes gather what they see for up to a second, so quiet is three of them.
        """
        seen: tuple[float, int, int] | None = None
        since = time.monotonic()

        def rests() -> bool:
            nonlocal seen, since
            gate, now = self.proxy.gate, time.monotonic()
            look = (self.operator.total("lepton_reconcile_total"), gate.passed, len(gate.held))
            playing = any(pod["status"]["phase"] == "Pending" for pod in self.all("Pod"))
            if playing or look != seen or not self.operator.is_idle():
                seen, since = look, now
            return now - since >= QUIET_SECONDS

        until(rests, lambda: f"that nothing happens any more\n{self.report()}", deadline)

    def wait_empty(self, deadline: float = SETTLE_SECONDS) -> None:
        """Until nothing of Lepton's is left but claims."""
        until(
            lambda: not self.lepton_objects() and not self.children() and not self.all("Pod"),
            lambda: f"that nothing is left: {sorted(self.children())}\n{self.report()}",
            deadline,
        )

    def dump(self) -> list[str]:
        """The canonical state."""
        return dump.dump(self.kube, self.namespace)

    def wait_dump(self, wanted: list[str], deadline: float = SETTLE_SECONDS) -> None:
        """Until the canonical state is that one; the difference is in the error."""
        until(
            lambda: is_settled(self.lepton_objects()) and self.dump() == wanted,
            lambda: f"the wanted end\n{dump.differences(wanted, self.dump())[:6000]}\n{self.report()}",
            deadline,
            poll=0.4,
        )

    def report(self) -> str:
        """What a person needs to understand a failure."""
        rows = [
            f"  {obj['kind']} {obj['metadata']['name']}: {row['type']}={row['status']} "
            f"{row['reason']}: {row['message']}"
            for obj in self.lepton_objects()
            for row in conditions(obj).values()
        ]
        calls = [f"  {call}" for call in self.proxy.writes()[-30:]]
        errors = [f"  {error}" for error in self.puppet.errors[-5:]]
        log = [f"  {line[:500]}" for line in self.operator.log().splitlines()[-15:]]
        parts = {"conditions": rows, "writes": calls, "simulation": errors, "log": log}
        lines = [f"{self.namespace}"]
        for title, part in parts.items():
            lines += [f"{title}:", *part]
        return "\n".join(lines)


class Lab:
    """What all cases share: the cluster, the simulated node, the background loop."""

    def __init__(self, kube: Kube, background: Background, puppet: Puppet, scratch: Path) -> None:
        self.kube = kube
        self.background = background
        self.puppet = puppet
        self.scratch = scratch
        self._numbers = itertools.count(1)
        self._chain_end: list[str] | None = None
        self._lock = threading.Lock()

    def chain_end(self) -> list[str]:
        """The end state of one object of each kind, when nothing disturbs."""
        with self._lock:
            if self._chain_end is None:
                with self.sandbox("undisturbed", forked=True) as box:
                    box.operator.start()
                    box.create(*chain())
                    box.wait_settled()
                    until(box.operator.is_idle, "that the operator rests")
                    self._chain_end = box.dump()
            return self._chain_end

    @contextmanager
    def sandbox(self, name: str, *, forked: bool = False, **settings: str) -> Iterator[Sandbox]:
        """A case of its own; what it knows is added to an error. `forked`: see forks.py."""
        word = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
        box = Sandbox(self, f"it-{word}-{next(self._numbers)}", settings, forked)
        try:
            box.open()
            yield box
        except AssertionError as error:
            error.add_note(box.report())
            raise
        finally:
            box.close()


def side_by_side(cases: Iterable[Case], run: Callable[[Case], None], at_once: int = SIDE_BY_SIDE) -> None:
    """Run every case; the failures of all of them in one AssertionError."""
    pool = ThreadPoolExecutor(at_once)
    try:
        futures = {case: pool.submit(run, case) for case in cases}
        errors = {case: future.exception() for case, future in futures.items()}
    finally:
        # When the tests are interrupted, no further case begins.
        pool.shutdown(cancel_futures=True)
    failures = []
    for case, error in errors.items():
        if error is not None:
            notes = "\n".join(getattr(error, "__notes__", ()))
            failures.append(f"=== {case}: {type(error).__name__}: {error}\n{notes}")
    total = len(futures)
    assert not failures, f"{len(failures)} of {total} cases failed\n" + "\n".join(failures)[:40_000]
