"""Specs from the schemas of the CRDs for the tests with a cluster: any, those that pods are made of, good ones."""

import os
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from lepton_operator.api import KINDS
from tests.integration.kube import Object
from tests.unit.schema import Schema, root_schema
from tests.unit.strategies import AFFINITIES, WORDS, Special, drawn, values

MORE = int(os.environ.get("PROPERTY_EXAMPLES", "0"))
"""So many times as many examples, and other ones in each run."""

EXAMPLES = settings(
    derandomize=not MORE,
    database=None,
    deadline=None,
    phases=(Phase.explicit, Phase.generate, Phase.shrink) if MORE else (Phase.explicit, Phase.generate),
    suppress_health_check=list(HealthCheck),
)
SCHEMAS: dict[str, Schema] = {kind.name: root_schema(kind)["properties"]["spec"] for kind in KINDS}
ANY: dict[str, SearchStrategy[Any]] = {name: values(schema) for name, schema in SCHEMAS.items()}

CLAIMS = ("photos", "models")
"""Claims that the sandbox of these tests has, beside the default one."""


def how_many(usual: int) -> int:
    """Examples of a test."""
    return usual * max(1, MORE)


def examples(strategy: SearchStrategy[Any], usual: int) -> list[Any]:
    """So many examples."""
    return drawn(strategy, how_many(usual), by_chance=bool(MORE))


def _split() -> SearchStrategy[Any]:
    shares = st.sampled_from(((0.8, 0.1, 0.1), (0.5, 0, 0.5), (0.7, 0.2, 0.1)))
    named = shares.map(lambda found: dict(zip(("train", "validation", "test"), found, strict=True)))
    return st.builds(lambda split, seed: split | {"seed": seed}, named, st.integers(0, 2**31 - 1))


def _resources() -> SearchStrategy[Any]:
    cpu, memory = st.sampled_from(("100m", "0.25", 1)), st.sampled_from(("64Mi", "1000k", "1.5Gi"))
    requests = st.fixed_dictionaries({"cpu": cpu}, optional={"memory": memory})
    limits = st.fixed_dictionaries(
        {}, optional={"cpu": st.sampled_from((2, "1500m")), "memory": st.just("2Gi")}
    )
    return st.fixed_dictionaries({"requests": requests}, optional={"limits": limits})


def _network() -> SearchStrategy[Any]:
    """Any sizes; a program of one's own has tests of its own."""
    drawn_ones = values(SCHEMAS["LeptonTrainingJob"]["properties"]["network"])
    return drawn_ones.map(lambda one: {name: one[name] for name in one if name != "custom"} | {"type": "cnn"})


def _autoscaling() -> SearchStrategy[Any]:
    bounds = st.sampled_from(((1, 3), (2, 3), (2, 5)))
    return bounds.map(lambda found: {"minReplicas": found[0], "maxReplicas": found[1]})


STRANGE_AFFINITIES = (
    {"nodeAffinity": "here"},
    {"unknown": {"field": 1}},
    {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": ""}]}},
    {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": []}}},
)
STRANGE_RESOURCES = (
    {"limits": {"nvidia.com/gpu": 1}},
    {"limits": {"nvidia.com/gpu": "0.5"}},
    {"limits": {"kubernetes.io/unknown": 1}},
    {"limits": {"hugepages-2Mi": "64Mi"}},
    {"requests": {"cpu": 0, "memory": "0.1"}},
    {"requests": {"cpu": "999999"}},
    {"requests": {"memory": "0.9E"}, "limits": {"memory": "0.9E"}},
    {},
)


def _alarm() -> SearchStrategy[Any]:
    """Any that the rules take."""
    names = st.sampled_from(("seven", "eight", "a-9"))
    labels = st.lists(st.sampled_from(("7", "cat", "Zählwerk", "写真")), min_size=1, max_size=3)
    sinks = st.sampled_from(WORDS["url"]).map(lambda url: {"url": url})
    return st.fixed_dictionaries(
        {"name": names, "labels": labels, "sink": sinks},
        optional={"threshold": st.sampled_from((0.5, 1)), "count": st.integers(1, 1000)},
    )


def _security() -> SearchStrategy[Any]:
    return st.fixed_dictionaries(
        {},
        optional={
            "tokenSecret": st.sampled_from(("visitors", "team-a")).map(lambda name: {"name": name}),
            "tlsSecret": st.sampled_from(("certificate", "tls.example")).map(lambda name: {"name": name}),
        },
    )


def _special(claims: tuple[str, ...], jobs: tuple[str, ...], deadlines: tuple[int, ...]) -> Special:
    claim = st.sampled_from(claims)
    paths = st.sampled_from(WORDS["path"])
    folder = st.builds(lambda name, path: {"pvc": {"claimName": name, "path": path}}, claim, paths)
    builtin: SearchStrategy[Any] = st.just({"builtin": "digits"})
    data = builtin | folder
    version = st.builds(lambda name, path: {"uri": f"pvc://{name}/{path}"}, claim, paths)
    fetched = st.just({"uri": "https://models.example/digits.tar.gz", "sha256": "0" * 64})
    trained = st.sampled_from(jobs).map(lambda name: {"trainingJob": {"name": name}})
    return {
        "source": data,
        "split": _split(),
        "parallelism": st.integers(1, 2),
        "storage": st.sampled_from(("lepton-store", *claims)).map(lambda name: {"claimName": name}),
        "resources": _resources(),
        "startupDeadlineSeconds": st.sampled_from(deadlines),
        "activeDeadlineSeconds": st.sampled_from((3600, 31_536_000)),
        "ttlSecondsAfterFinished": st.sampled_from((0, 3600, 31_536_000)),
        "dataset": st.sampled_from(jobs).map(lambda name: {"name": name}),
        "network": _network(),
        "workers": st.integers(1, 2),
        "training.batchSize": st.sampled_from((2, 64, 65_536)),
        "replicas": st.integers(0, 3),
        "autoscaling": _autoscaling(),
        "model source": version | fetched | trained,
        "alarms.[]": _alarm(),
        "security": _security(),
        "requestLog.claimName": claim,
        "podTemplate.affinity": st.sampled_from(AFFINITIES),
        "podTemplate.volumes.[]": _volume(claim),
    }


def _volume(claims: SearchStrategy[str]) -> SearchStrategy[Any]:
    """Of each kind; two at one place are refused by a rule."""
    kinds: SearchStrategy[Any] = st.sampled_from(
        (
            {"emptyDir": {}},
            {"emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
            {"secret": {"secretName": "s"}},
            {"configMap": {"name": "c", "items": [{"key": "k", "path": "a/b"}]}},
        )
    ) | claims.map(lambda claim: {"persistentVolumeClaim": {"claimName": claim}})
    places = st.sampled_from(("a", "b", "c")).map(lambda name: {"name": name, "mountPath": f"/mine/{name}"})
    return st.builds(lambda place, kind: place | kind, places, kinds)


def _specs(kind: str, special: Special) -> SearchStrategy[Any]:
    if kind == "LeptonModel":
        special = {**special, "source": special["model source"]}
    return values(SCHEMAS[kind], special=special).map(one_who_scales).map(one_that_runs)


def one_who_scales(spec: Object) -> Object:
    """replicas and autoscaling exclude each other."""
    if "autoscaling" in spec:
        spec = {name: value for name, value in spec.items() if name != "replicas"}
    return spec


def one_that_runs(spec: Object) -> Object:
    """8 bits go with LiteRT only, and the simulated trainings lose 0.001 by them."""
    if spec.get("precision") == "int8":
        spec = {name: value for name, value in spec.items() if name != "engine"}
    if "maxAccuracyDrop" in spec:
        spec = spec | {"maxAccuracyDrop": max(0.005, spec["maxAccuracyDrop"])}
    return spec


RUNNABLE = {
    kind: _specs(kind, _special((*CLAIMS, "nobody"), ("digits", "nobody"), (1, 600, 86_400)))
    for kind in SCHEMAS
}
"""Few pods each; what they refer to may be missing."""

_GOOD_SPECIAL = {**_special(CLAIMS, ("digits",), (600, 86_400)), "suspend": st.just(False)}
_GOOD = {kind: _specs(kind, _GOOD_SPECIAL) for kind in SCHEMAS}
_PLACED = ("nodeSelector", "affinity", "priorityClassName", "runtimeClassName", "schedulerName")


def good_specs(kind: str) -> Iterator[Object]:
    """Specs whose pods run: what they refer to is there, and nothing keeps them from the simulated node."""
    for spec in drawn(_GOOD[kind], 80, by_chance=bool(MORE)):
        template = spec.get("podTemplate", {})
        for name in _PLACED:
            template.pop(name, None)
        yield deepcopy(spec)
