"""docs/own-code.md tells all that the contract holds."""

import re
from pathlib import Path

import pytest

from lepton_workloads.contract import own_code
from lepton_workloads.contract.own_code import LabelFigures, OwnProgress, OwnResult
from lepton_workloads.own import lepton_job

TEXT = (Path(__file__).parents[3] / "docs/own-code.md").read_text()
VARIABLES = sorted(value for name, value in vars(own_code).items() if name.endswith("_ENV"))
FIELDS = sorted(
    str(field.alias)
    for record in (OwnProgress, OwnResult, LabelFigures)
    for field in record.model_fields.values()
)


@pytest.mark.parametrize("name", [*VARIABLES, "TF_CONFIG", "LEPTON_THREADS", *FIELDS])
def test_a_name_of_the_contract_is_told(name: str) -> None:
    assert re.search(rf'[`"$]{name}[`"]', TEXT)


def test_the_helper_reads_only_what_is_promised() -> None:
    read = set(re.findall(r'"(LEPTON_[A-Z_]+)"', Path(lepton_job.__file__).read_text()))
    assert read <= {*VARIABLES, "LEPTON_THREADS"}
