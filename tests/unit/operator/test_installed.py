"""Older CRDs than the operator's are named before anything is written."""

import copy
from typing import Any

import pytest

from lepton_operator.api_errors import ApiError, NotFound
from lepton_operator.installed import problem_with_crds
from tests.unit.operator.test_app import KINDS, openapi


class Discovery:
    """Answers with one document, or an error."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    async def get_path(self, path: str, *, seconds: float = 0) -> Any:
        if isinstance(self.answer, ApiError):
            raise self.answer
        return self.answer


async def problem(answer: Any) -> str | None:
    return await problem_with_crds(Discovery(answer))  # type: ignore[arg-type]


async def test_the_same_fields_are_no_problem() -> None:
    assert await problem(openapi(KINDS)) is None


async def test_newer_crds_are_no_problem() -> None:
    document = openapi(KINDS)
    document["components"]["schemas"]["LeptonModel"]["properties"]["spec"]["properties"]["later"] = {}
    assert await problem(document) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (("LeptonModel", "properties", "spec", "properties"), "replicas"),
        (
            (
                "LeptonDataset",
                "properties",
                "spec",
                "properties",
                "source",
                "properties",
                "pvc",
                "properties",
            ),
            "claimName",
        ),
        (("LeptonTrainingJob", "properties", "status", "properties"), "conditions"),
    ],
)
async def test_a_missing_field_is_named(path: tuple[str, ...], name: str) -> None:
    document = copy.deepcopy(openapi(KINDS))
    at = document["components"]["schemas"]
    for part in path:
        at = at[part]
    del at[name]
    found = await problem(document)
    assert found is not None
    assert path[0] in found
    assert name in found
    assert "apply crds/" in found


async def test_a_missing_kind_and_a_missing_group_are_named() -> None:
    assert "LeptonModel is missing" in str(await problem(openapi(KINDS[:2])))
    assert "apply crds/" in str(await problem(NotFound("no", status=404)))
    assert "can't be read" in str(await problem(ApiError("broken", status=500)))
