"""deploy/monitoring/: rules and dashboard name only metrics and labels that servers and operator have."""

import json
import re
from pathlib import Path
from typing import Any

import promql_parser
import pytest
import yaml
from prometheus_client import REGISTRY
from prometheus_client.registry import Collector

from lepton_operator import metrics as operator_metrics
from lepton_operator.census import Census
from lepton_workloads.contract.artifact import Histogram, Reference
from lepton_workloads.contract.data import SplitName
from lepton_workloads.contract.serving import Alarm, Drift, RequestLog, Sink
from lepton_workloads.serve.runner import compose
from lepton_workloads.serve.settings import Settings
from tests.unit.serving.support import LABELS, SIGNATURE, TASK, FakeEngine

MONITORING = Path(__file__).parents[2] / "deploy" / "monitoring"
WORD = re.compile(r"\b(?:lepton|process)_[a-z0-9_]+\b|\blepton:[a-z0-9_:]+\b")
SELECTOR = re.compile(r"(\b(?:lepton|process)_[a-z0-9_]+)\{([^}]*)\}")
FROM_PROMETHEUS = {"job", "instance"}


def _engine() -> Any:
    return FakeEngine()


def rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((MONITORING / "dashboard.json").read_text())["panels"]
    return found


def expressions() -> list[str]:
    targets = [target for panel in panels() for target in panel.get("targets", [])]
    return [rule["expr"] for rule in rules()] + [target["expr"] for target in targets]


def series_of(collector: Collector) -> dict[str, set[str]]:
    """Names of series with their labels, also of metrics that have no value yet."""
    found: dict[str, set[str]] = {}
    for family in collector.describe() if hasattr(collector, "describe") else collector.collect():
        labels = set(getattr(collector, "_labelnames", ())) or set(getattr(family, "_labelnames", ()))
        for suffix in {"counter": ["_total"], "histogram": ["_bucket", "_sum", "_count"]}.get(
            family.type, [""]
        ):
            found[family.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


@pytest.fixture(scope="module")
def known(tmp_path_factory: pytest.TempPathFactory) -> dict[str, set[str]]:
    """Every series of a server that has all there is, and of the operator."""
    root = tmp_path_factory.mktemp("root")
    histogram = Histogram(edges=[1.0], shares=[0.5, 0.5])
    reference = Reference(
        split=SplitName.VALIDATION,
        samples=1000,
        channel_means=[histogram] * 3,
        brightness=histogram,
        contrast=histogram,
        predicted=[0.25] * 4,
        confidence=histogram,
    )
    task = TASK.model_copy(
        update={
            "alarms": [Alarm(name="a", labels=LABELS[:1], sink=Sink(url="http://127.0.0.1:1/"))],
            "drift": Drift(),
            "request_log": RequestLog(claim_name="requests"),
        }
    )
    settings = Settings(task=task, model_dir=root, port=0, threads=1, access_log=0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LEPTON_ROOT", str(root))
        server, model = compose(settings, SIGNATURE, _engine, reference=reference)
    found: dict[str, set[str]] = {}
    for registry in (server.metrics.registry, REGISTRY):
        for collector in list(registry._collector_to_names):
            found |= series_of(collector)
    found |= series_of(Census({}))
    found["lepton_objects"] = {"kind", "condition", "status"}
    found["lepton_object_reasons"] = {"kind", "reason"}
    assert operator_metrics.LEADER is not None
    model.close()
    for finish in server.watchers.finishing:
        finish(0)
    return found


def test_every_metric_that_is_named_exists(known: dict[str, set[str]]) -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    named = {word for expression in expressions() for word in WORD.findall(expression)}
    assert len(named) > 25
    assert sorted(named - recorded - set(known)) == []


def test_every_label_that_is_selected_exists(known: dict[str, set[str]]) -> None:
    selected = 0
    for expression in expressions():
        for name, selectors in SELECTOR.findall(expression):
            for label in re.findall(r"([a-z_]+)\s*(?:=~|!~|!=|=)", re.sub(r'"[^"]*"', "", selectors)):
                assert label in known[name], (name, label)
                selected += 1
    assert selected > 20


def test_every_label_that_is_grouped_by_comes_from_a_metric_of_the_expression(
    known: dict[str, set[str]],
) -> None:
    for expression in expressions():
        names = WORD.findall(expression)
        at_hand = set().union(*(known.get(name, {"model", "code"}) for name in names)) | FROM_PROMETHEUS
        for listed in re.findall(r"(?:by|on|group_left)\s*\(([^)]*)\)", expression):
            labels = {label.strip() for label in listed.split(",")}
            assert labels <= at_hand, (expression, labels - at_hand)


def test_prometheus_can_read_every_expression() -> None:
    for expression in expressions():
        promql_parser.parse(expression.replace("$__rate_interval", "5m"))


def test_numbers_of_a_server_are_joined_with_its_model() -> None:
    bare = [re.sub(r'"[^"]*"', '""', expression) for expression in expressions()]
    joined = [one for one in bare if "lepton_server_" in one]
    assert joined
    for expression in joined:
        assert "group_left (model" in expression or "lepton_server_model_info" in expression, expression


def test_alerts_say_what_to_do() -> None:
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 5
    for rule in alerts:
        assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
        assert rule["labels"]["severity"] in {"warning", "critical"}
        assert set(rule["annotations"]) == {"summary", "description"}
        used = set(re.findall(r"\$labels\.([a-z_]+)", rule["annotations"]["summary"]))
        assert all(label in rule["expr"] for label in used), rule["alert"]


def test_panels_have_places_of_their_own() -> None:
    taken: set[tuple[int, int]] = set()
    assert len({panel["id"] for panel in panels()}) == len(panels())
    for panel in panels():
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
