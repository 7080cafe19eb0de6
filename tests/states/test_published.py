"""docs/api and README.md tell of all that there is."""

import re
from pathlib import Path

import pytest
from scripts.docs import main

from lepton_operator.api import KINDS
from lepton_operator.api.kind import Kind
from tests.states.publish import index_page, kind_page, states_table
from tests.states.row import Stand, late
from tests.states.rows.everything import BY_KIND, EVERY
from tests.states.vocabulary import all_reasons

ROOT = Path(__file__).parents[2]
TROUBLE = (Stand.WAITING, Stand.STALLED, Stand.ENDED)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_the_page_of_a_kind_is_up_to_date(kind: Kind) -> None:
    assert (ROOT / "docs" / "api" / f"{kind.plural}.md").read_text() == kind_page(kind)


def test_the_index_is_up_to_date() -> None:
    assert (ROOT / "docs" / "api" / "README.md").read_text() == index_page()


def test_the_check_fails_on_a_difference_and_changes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([], tmp_path) == 0
    assert main(["--check"], tmp_path) == 0
    page, other = tmp_path / "docs" / "api" / "leptonmodels.md", tmp_path / "docs" / "api" / "old.md"
    page.write_text("other")
    other.write_text("of a kind that is gone")
    assert main(["--check"], tmp_path) == 1
    told = capsys.readouterr().err
    assert "leptonmodels.md, docs/api/old.md" in told
    assert page.read_text() == "other"
    assert main([], tmp_path) == 0
    assert not other.exists()
    assert main(["--check"], tmp_path) == 0


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_table_has_a_line_for_each_situation_with_all_cells(kind: str) -> None:
    head, _, *lines = states_table(kind).splitlines()
    assert len(lines) == len(BY_KIND[kind])
    assert {line.count(" | ") for line in lines} == {head.count(" | ")}


def test_a_state_with_a_deadline_is_told_before_and_after_it() -> None:
    row = next(row for row in BY_KIND["LeptonModel"] if row.reason == "RollingOut")
    (line,) = [
        line for line in states_table(row.kind).splitlines() if line.startswith(f"| {row.situation} |")
    ]
    assert "| False → True |" in line
    assert f"| `RollingOut` → `{late(row).reason}` | InProgress → Failed | Progressing → Degraded |" in line


def test_the_readme_says_what_to_do_about_every_fault() -> None:
    assert sorted({row.reason for row in EVERY if row.stand in TROUBLE} - reasons_of_readme()) == []


def test_the_readme_tells_of_no_fault_that_there_is_not() -> None:
    assert sorted(reasons_of_readme() - all_reasons()) == []


def reasons_of_readme() -> set[str]:
    """Reasons in the first column of the table."""
    table = re.findall(r"^\| (`.*?`) \|", (ROOT / "README.md").read_text(), re.MULTILINE)
    return {reason for cell in table for reason in re.findall(r"`([A-Za-z]+)`", cell)}
