"""Containment decides whether a child is written at all."""

from typing import Any

import pytest

from lepton_operator.contain import difference, merge_patch, restoring_patch, without_nulls


@pytest.mark.parametrize(
    ("live", "desired"),
    [
        ({"a": 1, "b": 2}, {"a": 1}),
        ({"a": {"b": [{"c": 1, "default": 2}]}}, {"a": {"b": [{"c": 1}]}}),
        ({}, {"a": {}, "b": []}),
        ({"a": 1}, {"a": 1.0}),
        ({"metadata": {}}, {"metadata": {"ownerReferences": [{}], "namespace": "x", "uid": "y"}}),
        ({"a": [1, 2]}, {"a": (1, 2)}),
        ({"x": {"env": [{"name": "theirs"}, {"name": "a"}]}}, {"x": {"env": [{"name": "a"}]}}),
        ({"x": {"env": [{"name": "b"}, {"name": "a"}]}}, {"x": {"env": [{"name": "a"}, {"name": "b"}]}}),
        (
            {"x": {"containers": [{"name": "b"}, {"name": "a", "ports": [{"containerPort": 1}]}]}},
            {"x": {"containers": [{"name": "a", "ports": [{"containerPort": 1}]}]}},
        ),
    ],
)
def test_contained(live: Any, desired: Any) -> None:
    assert difference(live, desired) is None


@pytest.mark.parametrize(
    ("live", "desired", "path"),
    [
        ({}, {"a": 1}, "a"),
        ({"a": {"b": [1]}}, {"a": {"b": [1, 2]}}, "a.b"),
        ({"a": [{"b": 1}, {"b": 2}]}, {"a": [{"b": 1}, {"b": 3}]}, "a.1.b"),
        ({"a": True}, {"a": 1}, "a"),
        ({"a": "1"}, {"a": 1}, "a"),
        ({"a": 0}, {"a": False}, "a"),
        ({"a": None}, {"a": "x"}, "a"),
        ({"a": "x"}, {"a": {"b": 1}}, "a"),
        ({"a": [2, 1]}, {"a": [1, 2]}, "a.0"),
        ({"spec": {"selector": {"a": "1", "b": "2"}}}, {"spec": {"selector": {"a": "1"}}}, "spec.selector"),
        ({"x": {"command": ["b", "a"]}}, {"x": {"command": ["a"]}}, "x.command"),
        ({"x": {"env": [{"name": "b"}]}}, {"x": {"env": [{"name": "a"}]}}, "x.env.0"),
        (
            {"x": {"env": [{"name": "b"}, {"name": "a", "value": "2"}]}},
            {"x": {"env": [{"name": "a", "value": "1"}]}},
            "x.env.0.value",
        ),
        (
            {"x": {"ports": [{"port": 80, "protocol": "UDP"}]}},
            {"x": {"ports": [{"port": 80, "protocol": "TCP"}]}},
            "x.ports.0",
        ),
    ],
)
def test_not_contained(live: Any, desired: Any, path: str) -> None:
    assert difference(live, desired) == path


def test_a_status_patch_removes_what_is_gone_and_sends_the_whole_rest() -> None:
    before = {"a": 1, "old": 2, "deep": {"x": 1, "y": 2}, "list": [1], "was": {"p": 1}}
    after = {"a": 1, "deep": {"x": 1}, "list": [1, 2], "was": 5}
    assert merge_patch(before, after) == {
        "old": None,
        "a": 1,
        "deep": {"y": None, "x": 1},
        "list": [1, 2],
        "was": 5,
    }


def test_nulls_go() -> None:
    assert without_nulls({"a": None, "b": {"c": None}, "d": [{"e": None}]}) == {"b": {}, "d": [{}]}


def test_a_restoring_patch_makes_the_spec_ours_and_keeps_the_rest() -> None:
    live = {
        "metadata": {"uid": "u", "labels": {"theirs": "1"}, "resourceVersion": "5"},
        "spec": {"a": 1, "theirs": 2, "rows": [{"x": 1}, {"y": 2}], "replicas": 3},
        "status": {"z": 1},
    }
    desired = {"metadata": {"name": "m", "labels": {"ours": "1"}}, "spec": {"a": 5, "rows": [{"x": 2}]}}
    assert restoring_patch(live, desired) == {
        "metadata": {"uid": "u", "labels": {"ours": "1"}},
        "spec": {"theirs": None, "a": 5, "rows": [{"x": 2}]},
    }
    fixed = {"metadata": {"name": "m"}, "spec": {"replicas": 1}}
    assert restoring_patch(live, fixed)["spec"]["replicas"] == 1
