"""Cross-validation: each fold is a Job of one worker, some at a time; a finished fold never runs again.

The folds follow the training. Their attempts count to the same limits as those of the training, and as there an
end is counted in the status before the next attempt is made.
"""

from statistics import fmean, stdev
from typing import Any

from lepton_operator.actions import Apply, Create
from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.conditions import State, Verdict
from lepton_operator.context import Context
from lepton_operator.decide import attempt as attempts
from lepton_operator.decide.common import (
    Draft,
    has_ended,
    job_condition,
    pods_of_job,
    soonest,
    unreadable_result,
    waiting,
)
from lepton_operator.desired.gang import (
    CONTAINER,
    Pinned,
    attempt_job,
    attempt_labels,
    fold_name,
    gang_service,
)
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed
from lepton_operator.faults import Fault, look_again, outcome_of, refusal_fault, worst_fault
from lepton_workloads.contract.outcome import FoldResult

Row = dict[str, Any]


def jobs_expected(obj: Json) -> tuple[str, ...]:
    """Jobs of the folds that were last seen at work."""
    owner = Owner.of(obj)
    rows = ((obj.get("status") or {}).get("evaluation") or {}).get("folds") or ()
    return tuple(
        fold_name(owner, row["fold"], row["attempt"])
        for row in rows
        if "accuracy" not in row and row.get("attempt", 0) > row.get("failedAttempt", 0)
    )


def all_done(status: Json, folds: int) -> bool:
    """Whether every fold has its result."""
    rows = (status.get("evaluation") or {}).get("folds") or ()
    return len(rows) == folds and all("accuracy" in row for row in rows)


def cross_validate(
    observed: Observed,
    owner: Owner,
    spec: TrainingJobSpec,
    draft: Draft,
    pinned: Pinned,
    context: Context,
    now: float,
) -> None:
    """Goes on with the folds; when all are done the draft's verdict stays, and their figures are in it."""
    validation = spec.evaluation.cross_validation
    assert validation is not None, "asked for by the caller"
    told = draft.fields.get("evaluation") or {}
    before = {row["fold"]: dict(row) for row in told.get("folds") or ()}
    rows: list[Row] = [before.get(at, {"fold": at}) for at in range(validation.folds)]
    draft.fields["evaluation"] = {**told, "folds": rows}
    done = draft.verdict
    draft.verdict = Verdict(State.PROGRESSING, "CrossValidating", "")
    run = _Run(observed, owner, spec, draft, pinned, context, now)
    for row in rows:
        if "accuracy" not in row:
            run.visit(row)
    finished = [row for row in rows if "accuracy" in row]
    draft.fields["evaluation"]["completedFolds"] = f"{len(finished)}/{len(rows)}"
    if len(finished) == len(rows):
        draft.fields["evaluation"] |= _figures(rows)
        draft.verdict = done
        draft.fields.pop("nextAttemptTime", None)
        return
    if draft.verdict.state is State.FAILED:
        draft.actions = [action for row in rows for action in run.stop(row)]
        return
    run.start(rows, validation.parallelism)
    if draft.verdict.reason == "CrossValidating":
        text = f"cross-validation: {len(finished)} of {len(rows)} folds are done"
        draft.verdict = Verdict(State.PROGRESSING, "CrossValidating", text)


def _figures(rows: list[Row]) -> Row:
    accuracies = [float(row["accuracy"]) for row in rows]
    return {
        "meanAccuracy": round(fmean(accuracies), 6),
        "standardDeviation": round(stdev(accuracies), 6),
        "meanLoss": round(fmean(float(row["loss"]) for row in rows), 6),
    }


def suspend(observed: Observed, owner: Owner, draft: Draft) -> None:
    """Ends the attempts of all folds without counting them."""
    told = draft.fields.get("evaluation") or {}
    rows: list[Row] = [dict(row) for row in told.get("folds") or ()]
    for row in rows:
        zeroth = fold_name(owner, row["fold"], 0)
        number = attempts.largest_number(observed, zeroth, row.get("attempt", 0))
        if "accuracy" not in row and number:
            row |= {"attempt": number, "failedAttempt": number}
    if rows:
        draft.fields["evaluation"] = {**told, "folds": rows}
    draft.actions = attempts.stop_all(observed)


class _Run:
    """One visit to the folds."""

    def __init__(
        self,
        observed: Observed,
        owner: Owner,
        spec: TrainingJobSpec,
        draft: Draft,
        pinned: Pinned,
        context: Context,
        now: float,
    ) -> None:
        self._observed = observed
        self._owner = owner
        self._spec = spec
        self._draft = draft
        self._pinned = pinned
        self._context = context
        self._now = now

    def _job(self, row: Row, number: int) -> Json | None:
        return self._observed.children.get(("Job", fold_name(self._owner, row["fold"], number)))

    def _number(self, row: Row) -> int:
        """max(status, Jobs seen), 0 before the first."""
        zeroth = fold_name(self._owner, row["fold"], 0)
        return attempts.largest_number(self._observed, zeroth, row.get("attempt", 0))

    def visit(self, row: Row) -> None:
        """See how a fold's attempt stands."""
        number = self._number(row)
        if number <= row.get("failedAttempt", 0):
            return
        row["attempt"] = number
        one = attempts.Try(f"fold {row['fold']}, attempt {number}", number, row)
        job = self._job(row, number)
        if job is not None and job_condition(job, "Complete"):
            self._read(row, one, job)
        elif job is not None and (end := attempts.end_of(job)):
            found = attempts.what_ended(self._observed, job, end, one, self._now)
            if isinstance(found, attempts.End):
                self._count(one, found)
            else:
                self._draft.requeue_after = soonest(self._draft.requeue_after, found)
        elif job is None or "deletionTimestamp" in job["metadata"]:
            self._count(one, attempts.End(Fault("Restarting", "its Job was deleted"), disrupted=True))
        else:
            self._watch(row, one, job)

    def _read(self, row: Row, one: attempts.Try, job: Json) -> None:
        """The Job is complete: its result, or another attempt that finds it in the store."""
        pods = pods_of_job(self._observed.pods, job)
        for pod in pods:
            outcome = outcome_of(pod, CONTAINER)
            if outcome and outcome.fold:
                row |= _result(outcome.fold)
                return
        if not all(has_ended(pod) for pod in pods):
            return  # the Job was seen before its pods: their end is on its way
        if fault := unreadable_result(pods):
            self._count(one, attempts.End(fault))
        else:
            text = "the fold's result was lost with its pod and is read again"
            self._count(one, attempts.End(Fault("Restarting", text), disrupted=True))

    def _count(self, one: attempts.Try, end: attempts.End) -> None:
        """One end that is final is not hidden by a later one that isn't."""
        before = self._draft.verdict
        attempts.count(self._draft, self._spec, one, end, self._now)
        if before.state is State.FAILED:
            self._draft.verdict = before

    def _watch(self, row: Row, one: attempts.Try, job: Json) -> None:
        """The fold is starting or at work."""
        draft, pods = self._draft, pods_of_job(self._observed.pods, job)
        attempts.note_disruption(pods, one)
        draft.actions.append(Apply(attempt_labels(self._owner, one.number, row["fold"]), create=False))
        draft.requeue_after = soonest(draft.requeue_after, look_again(pods, self._now))
        fault = refusal_fault(self._observed.refusals) or worst_fault(
            pods, self._observed.warnings, self._now
        )
        if fault and draft.verdict.state is State.PROGRESSING and not draft.verdict.trouble:
            draft.verdict = waiting(fault)

    def stop(self, row: Row) -> list[Any]:
        """Ends a fold's attempt that has not ended."""
        return [] if "accuracy" in row else attempts.stop_job(self._job(row, self._number(row)))

    def start(self, rows: list[Row], parallelism: int) -> None:
        """Makes attempts up to the limit, once ends that were just counted have waited their time."""
        draft = self._draft
        if draft.verdict.trouble or attempts.backs_off(self._observed, draft, self._now):
            return
        open_rows = [row for row in rows if "accuracy" not in row]
        idle = [row for row in open_rows if row.get("attempt", 0) <= row.get("failedAttempt", 0)]
        free = parallelism - (len(open_rows) - len(idle))
        for row in idle[: max(0, free)]:
            number = self._number(row) + 1
            draft.actions.append(Apply(gang_service(self._owner)))
            draft.actions.append(
                Create(attempt_job(self._owner, self._spec, self._pinned, number, self._context, row["fold"]))
            )
        if idle[: max(0, free)] and (fault := refusal_fault(self._observed.refusals)):
            draft.verdict = waiting(fault)


def _result(found: FoldResult) -> Row:
    figures = {"accuracy": found.accuracy, "loss": found.loss, "f1": found.f1}
    rounded = {name: round(value, 6) for name, value in figures.items() if value is not None}
    return rounded | {"samples": found.samples}
