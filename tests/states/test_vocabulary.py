"""No reason without a row, no row without a reason that the source knows."""

from tests.states.row import Stand
from tests.states.rows.everything import BY_KIND, EVERY
from tests.states.vocabulary import KIND_OF_FILE, SOURCE, all_reasons, all_verdicts


def reasons_of_rows() -> set[str]:
    return {reason for row in EVERY for _, _, reason in row.conditions()}


def test_every_reason_of_the_operator_has_a_row() -> None:
    assert sorted(all_reasons() - reasons_of_rows()) == []


def test_every_reason_of_a_row_is_found_in_the_source() -> None:
    """Else the search for reasons overlooks a place where they stand."""
    assert sorted(reasons_of_rows() - all_reasons()) == []


def test_the_search_knows_all_files_that_judge() -> None:
    files = (SOURCE / "decide").glob("*.py")
    assert {path.name for path in files if "Verdict(" in path.read_text()} == {*KIND_OF_FILE, "common.py"}


def test_every_verdict_of_a_decision_has_a_row() -> None:
    """The same reason may stand for work that goes on and for a start with a deadline."""
    stands = {"PROGRESSING": Stand.GOING, "FAILED": Stand.ENDED}
    told = {(row.kind, row.stand, row.reason) for row in EVERY}
    verdicts = {(kind, stands.get(state) or Stand[state], reason) for kind, state, reason in all_verdicts()}
    assert {kind for kind, _, _ in verdicts} == set(BY_KIND)
    assert verdicts - told == set()


def test_the_faults_of_pods_have_rows_in_every_kind() -> None:
    pods = {"ImagePullFailed", "Unschedulable", "ContainerConfigError", "VolumeNotReady", "OutOfMemory",
            "ContainerFailed", "Evicted", "NodeLost", "SourceNotFound", "QuotaExceeded", "AdmissionDenied",
            "NameConflict", "WaitingForDeletion", "Forbidden", "ApiError", "StartupDeadlineExceeded",
            "InvalidSpec"}  # fmt: skip
    told = {kind: {row.reason for row in EVERY if row.kind == kind} for kind in BY_KIND}
    assert {kind: sorted(pods - reasons) for kind, reasons in told.items()} == {kind: [] for kind in BY_KIND}
