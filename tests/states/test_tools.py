"""What kstatus (cli-utils, Flux, Helm) and Argo CD say of the object of every row."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from lepton_operator.api import KINDS
from tests.states.checker import Said, ask
from tests.states.row import Row, Since, Stand
from tests.states.rows.everything import EVERY

ARGOCD_CM = Path(__file__).parents[2] / "deploy" / "argocd" / "argocd-cm.yaml"

each_row = pytest.mark.parametrize("row", EVERY, ids=lambda row: row.name)


@pytest.fixture(scope="session")
def scripts() -> dict[str, str]:
    """The health check of each kind, as a user installs it."""
    data = yaml.safe_load(ARGOCD_CM.read_text())["data"]
    return {kind.name: data[f"resource.customizations.health.lepton.ai_{kind.name}"] for kind in KINDS}


@pytest.fixture(scope="session")
def said(scripts: dict[str, str]) -> dict[str, Said]:
    """What the tools say, by row."""
    answers = ask([(row.recorded(), scripts[row.kind]) for row in EVERY])
    return {row.name: answer for row, answer in zip(EVERY, answers, strict=True)}


@each_row
def test_kstatus_agrees(row: Row, said: dict[str, Said]) -> None:
    assert said[row.name].kstatus == row.kstatus


@each_row
def test_flux_and_helm_agree(row: Row, said: dict[str, Said]) -> None:
    assert said[row.name].flux == row.kstatus


@each_row
def test_argo_cd_agrees(row: Row, said: dict[str, Said]) -> None:
    assert said[row.name].health == row.health


@each_row
def test_the_tools_tell_the_message_of_the_operator(row: Row, said: dict[str, Said]) -> None:
    if row.since is not Since.NOTHING or row.stand is Stand.UNSEEN:
        assert row.message() not in said[row.name].health_message or not row.message()
        return
    assert said[row.name].health_message.startswith(f"{row.reason}: {row.message()}")
    if row.stand is not Stand.DONE:
        assert said[row.name].kstatus_message == row.message()


def test_a_model_whose_old_version_answers_says_so_in_argo_cd(said: dict[str, Said]) -> None:
    told = said["LeptonModel: a new version fails while the old one answers"]
    assert told.health_message.endswith("; 1 pod answers, not all of them with the wanted version")


def test_an_object_without_any_status_is_in_progress(scripts: dict[str, str]) -> None:
    """Made while the CRDs of another version were there; kstatus alone would call it current."""
    row = next(row for row in EVERY if row.stand is Stand.UNSEEN)
    bare: dict[str, Any] = {name: value for name, value in row.recorded().items() if name != "status"}
    assert ask([(bare, scripts[row.kind])])[0].health == "Progressing"


@pytest.mark.parametrize("status", [{"observedGeneration": 1}, {"observedGeneration": 1, "conditions": []}])
def test_argo_cd_waits_for_conditions(status: dict[str, Any], scripts: dict[str, str]) -> None:
    questions = []
    for kind in KINDS:
        metadata = {"name": "a", "generation": 1}
        obj = {"apiVersion": kind.api_version, "kind": kind.name, "metadata": metadata, "status": status}
        questions.append((obj, scripts[kind.name]))
    assert {one.health for one in ask(questions)} == {"Progressing"}


def test_a_script_that_fails_is_told() -> None:
    """Else a broken health check would look like an answer."""
    obj = EVERY[0].recorded()
    for script in ("return 1", "return {status = 'Fine'}", "return {", "os.exit(0)", "while true do end"):
        with pytest.raises(RuntimeError):
            ask([(obj, script)])
