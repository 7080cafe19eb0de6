"""Every row of the published state tables: facts -> decision -> conditions."""

from collections import Counter

import pytest

from lepton_operator.api import KIND_BY_NAME
from tests.states.row import Row, Since, Stand
from tests.states.rows.everything import BY_KIND, EVERY
from tests.unit.schema import problems, root_schema

STATUS_SCHEMAS = {name: root_schema(kind)["properties"]["status"] for name, kind in KIND_BY_NAME.items()}


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_the_facts_give_the_published_conditions(row: Row) -> None:
    conditions = (row.recorded().get("status") or {}).get("conditions") or []
    assert [(one["type"], one["status"], one["reason"]) for one in conditions] == row.conditions()


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_a_message_says_what_is_going_on(row: Row) -> None:
    assert len(row.message().split()) >= 3 or row.stand is Stand.UNSEEN


@pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)
def test_the_recorded_status_is_one_that_the_crd_takes(row: Row) -> None:
    assert problems(STATUS_SCHEMAS[row.kind], row.recorded()["status"]) == []


def test_every_situation_is_told_once() -> None:
    assert [name for name, count in Counter(row.name for row in EVERY).items() if count > 1] == []


@pytest.mark.parametrize("kind", BY_KIND)
def test_a_table_holds_rows_of_its_kind_only(kind: str) -> None:
    assert {row.kind for row in BY_KIND[kind]} == {kind}


@pytest.mark.parametrize("kind", BY_KIND)
def test_an_object_can_be_unseen_changed_and_deleted(kind: str) -> None:
    assert {row.since for row in BY_KIND[kind]} == set(Since)
    assert Stand.UNSEEN in {row.stand for row in BY_KIND[kind]}
