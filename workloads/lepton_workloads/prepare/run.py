"""The way of one index through a preparation."""

import os
import time
import uuid
from collections.abc import Callable

from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.outcome import Failure, Outcome, PrepareResult, Report
from lepton_workloads.contract.tasks import DATASETS_DIR, INDEX_ENV, TASK_ENV, PrepareTask
from lepton_workloads.decode import Pixels
from lepton_workloads.logs import Log
from lepton_workloads.paths import place
from lepton_workloads.prepare.finish import check_invalid, finish, read_manifest, result_of
from lepton_workloads.prepare.parts import Part, read_part, write_part
from lepton_workloads.prepare.peers import Heartbeat, wait_for_peers
from lepton_workloads.prepare.plan import (
    Plan,
    PlannedItem,
    dataset_key,
    hash_inputs,
    read_items,
    read_plan,
    share,
    write_plan,
)
from lepton_workloads.prepare.sources import Source, open_reader, open_source
from lepton_workloads.report import ReportServer
from lepton_workloads.storage import remove, remove_stale, storage_errors
from lepton_workloads.termination import WorkloadError, at_sigterm

REPORT_SECONDS = 0.5

log = Log(__name__)


def main() -> Outcome:
    """Do the share of this container's index; index 0 brings the result.

    Raises:
        WorkloadError: SourceNotFound, InvalidData, PeersNotReady, StorageFailed.
    """
    task = PrepareTask.model_validate_json(os.environ[TASK_ENV])
    index = int(os.environ.get(INDEX_ENV, "0"))
    report = Report(owner_uid=task.dataset_uid, index=index)
    with ReportServer(report) as server:
        result = Preparation(task, index, server).run()
        server.update(phase="Done")
    log.info("Prepared", dataset=task.dataset, index=index, result=result and result.to_json_dict())
    return Outcome(prepare=result)


class Preparation:
    """One index at work."""

    def __init__(self, task: PrepareTask, index: int, server: ReportServer) -> None:
        self.task = task
        self.index = index
        self.server = server
        self.datasets = place(DATASETS_DIR)
        self.temporary = self.datasets / f".tmp-{task.job_key}"
        self.heartbeat = Heartbeat(self.temporary, index)

    def run(self) -> PrepareResult | None:
        """The result of index 0, None for the others."""
        with storage_errors("write the prepared data"):
            remove_stale(self.datasets)
            self.temporary.mkdir(exist_ok=True)
            if self.task.parallelism == 1:
                at_sigterm(lambda: remove(self.temporary))
            self.heartbeat.beat()
            if self.index:
                self._help()
                return None
            try:
                result = self._lead()
            except Exception as error:
                if not self._next_try_needs_parts(error):
                    remove(self.temporary)
                raise
            remove(self.temporary)
            return result

    def _next_try_needs_parts(self, error: Exception) -> bool:
        """A next try of index 0 waits for parts of indexes that are complete, and so never run again."""
        if isinstance(error, WorkloadError) and error.terminal:
            return False
        return self.task.parallelism > 1

    def _lead(self) -> PrepareResult:
        with storage_errors("read the source"):
            source = open_source(self.task)
            self.server.update(phase="Loading", total=len(source.items))
            digests = hash_inputs(source, self._progress())
        key = dataset_key(self.task, source, digests)
        final = self.datasets / key
        manifest = read_manifest(final)
        plan = Plan(
            key=key,
            labels=source.labels,
            total=len(source.items),
            parallelism=self.task.parallelism,
            reused=manifest is not None,
        )
        log.info("Planned", dataset=self.task.dataset, key=key, files=plan.total, reused=plan.reused)
        if manifest is not None:
            check_invalid(
                plan.total, manifest.invalid_files, manifest.invalid_examples, self.task.max_invalid_fraction
            )
        if manifest is None or self.task.parallelism > 1:
            write_plan(self.temporary, plan, source, digests, self.task)
        if manifest is not None:
            self._release_peers(plan)
            return result_of(manifest, final, reused=True)
        self._write_part(plan, source)
        self.server.update(phase="Waiting")
        parts = self._wait_for_parts(plan)
        return finish(self.temporary, final, self.task, plan, parts)

    def _help(self) -> None:
        self.server.update(phase="Waiting")
        [plan] = wait_for_peers(
            self.temporary, [0], lambda _: self._plan(), self.task.peer_deadline_seconds, self.heartbeat
        )
        self._write_part(plan, None if plan.reused else open_reader(self.task))

    def _plan(self) -> Plan | None:
        plan = read_plan(self.temporary)
        return plan if plan and plan.parallelism == self.task.parallelism else None

    def _write_part(self, plan: Plan, source: Source | None) -> None:
        """Decode this index's share, unless an earlier try of this index did; no source: nothing to do."""
        if read_part(self.temporary, self.index, plan.key, plan.parallelism) is not None:
            log.info("Reused part", index=self.index)
            return
        start, stop = share(plan.total if source else 0, self.index, plan.parallelism)
        self.server.update(phase="Preparing", done=0, total=stop - start)
        zeros = [0] * len(plan.labels)
        part = Part(
            key=plan.key,
            index=self.index,
            parallelism=plan.parallelism,
            token=uuid.uuid4().hex[:8],
            per_class=dict.fromkeys(SplitName, zeros),
        )

        def decode(item: PlannedItem) -> Pixels:
            assert source is not None  # without a source there are no items
            return source.pixels(item.name, item.digest, self.task.picture)

        items = read_items(self.temporary, start, stop)
        part = write_part(self.temporary, part, items, decode, self._progress())
        log.info("Wrote part", index=self.index, files=stop - start, invalid=part.invalid_files)

    def _wait_for_parts(self, plan: Plan) -> list[Part]:
        def ready(index: int) -> Part | None:
            return read_part(self.temporary, index, plan.key, plan.parallelism)

        indexes = range(plan.parallelism)
        return wait_for_peers(self.temporary, indexes, ready, self.task.peer_deadline_seconds, self.heartbeat)

    def _release_peers(self, plan: Plan) -> None:
        """Let the other indexes read that nothing is to do, before the plan goes away."""
        if plan.parallelism == 1:
            return
        self._write_part(plan, None)
        try:
            self._wait_for_parts(plan)
        except WorkloadError as error:
            if error.reason != Failure.PEERS_NOT_READY:
                raise
            log.warning("Did not wait any longer for indexes that have nothing to do", detail=error.message)

    def _progress(self) -> Callable[[int], None]:
        """Tells the report and the peers how far this index is, a few times a second at most."""
        next_time = 0.0

        def progress(done: int) -> None:
            nonlocal next_time
            if time.monotonic() >= next_time:
                next_time = time.monotonic() + REPORT_SECONDS
                self.server.update(done=done)
                self.heartbeat.beat()

        return progress
