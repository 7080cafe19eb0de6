"""For each field of a kind that may change: two specs that differ in it, both taken by the server.

Specs are drawn from the schema; one pair changes several fields, at most one in each part of the spec, so that
what a change does is not hidden by another one beside it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

from hypothesis import strategies as st

from lepton_operator.api.training_job import MUTABLE_FIELDS, TrainingJobSpec
from tests.integration.generated import SCHEMAS, examples, good_specs
from tests.integration.kube import Object
from tests.unit.schema import with_defaults
from tests.unit.strategies import Path, Special, found_at, leaves, node_at, values

Taken = Callable[[str, Object], bool]
"""Whether the server takes a spec of a kind."""

_TOLERATION = {
    "key": "gpu",
    "operator": "Equal",
    "value": "a",
    "effect": "NoExecute",
    "tolerationSeconds": 60,
}
_KEY = {"name": "s", "key": "k"}
_PLACE = {"name": "mine", "mountPath": "/mine"}
_ITEMS = [{"key": "k", "path": "p"}]
_FETCHED = {"uri": "pvc://models/digits", "sha256": "0" * 64}

HOLDERS: dict[str, Any] = {
    "podTemplate.env.[].name": [{"name": "MY", "value": "1"}],
    "podTemplate.env.[].value": [{"name": "MY", "value": "1"}],
    "podTemplate.env.[].valueFrom.secretKeyRef": [{"name": "MY", "valueFrom": {"secretKeyRef": _KEY}}],
    "podTemplate.env.[].valueFrom.configMapKeyRef": [{"name": "MY", "valueFrom": {"configMapKeyRef": _KEY}}],
    "podTemplate.envFrom.[].prefix": [{"prefix": "A_", "secretRef": {"name": "s"}}],
    "podTemplate.envFrom.[].secretRef": [{"secretRef": {"name": "s"}}],
    "podTemplate.envFrom.[].configMapRef": [{"configMapRef": {"name": "s"}}],
    "podTemplate.tolerations": [_TOLERATION],
    "podTemplate.imagePullSecrets": [{"name": "s"}],
    "podTemplate.volumes.[].persistentVolumeClaim": [
        _PLACE | {"persistentVolumeClaim": {"claimName": "photos"}}
    ],
    "podTemplate.volumes.[].secret": [_PLACE | {"secret": {"secretName": "s", "items": _ITEMS}}],
    "podTemplate.volumes.[].configMap": [_PLACE | {"configMap": {"name": "s", "items": _ITEMS}}],
    "podTemplate.volumes": [_PLACE | {"emptyDir": {}}],
    "source.pvc": {"pvc": {"claimName": "photos", "path": "a"}},
    "source.trainingJob": {"trainingJob": {"name": "digits"}},
    "source.uri": _FETCHED,
    "source.sha256": _FETCHED,
    "autoscaling": {"minReplicas": 2, "maxReplicas": 5},
    "replicas": 2,
    "security": {"tokenSecret": {"name": "visitors"}, "tlsSecret": {"name": "certificate"}},
    "alarms": [{"name": "seven", "labels": ["7"], "sink": {"url": "http://alarms.example/lepton"}}],
    "drift": {"window": 1000},
    "requestLog": {"claimName": "photos", "path": "kept"},
}
"""What a part of the spec holds before, by the beginning of the field: where the field makes sense."""

PAIRS: dict[str, tuple[Any, Any]] = {
    "source.builtin": ({"builtin": "digits"}, {"pvc": {"claimName": "photos"}}),
    "split.train": (
        {"train": 0.8, "validation": 0.1, "test": 0.1},
        {"train": 0.7, "validation": 0.2, "test": 0.1},
    ),
    "split.validation": (
        {"train": 0.8, "validation": 0.1, "test": 0.1},
        {"train": 0.8, "validation": 0, "test": 0.2},
    ),
    "split.test": (
        {"train": 0.8, "validation": 0.1, "test": 0.1},
        {"train": 0.6, "validation": 0.1, "test": 0.3},
    ),
    "podTemplate.tolerations.[].operator": ([_TOLERATION], [{"key": "gpu", "operator": "Exists"}]),
    "podTemplate.tolerations.[].effect": ([_TOLERATION], [{"key": "gpu", "effect": "NoSchedule"}]),
    "requestLog.claimName": ({"claimName": "photos"}, {"claimName": "models"}),
    "autoscaling.minReplicas": ({"minReplicas": 2, "maxReplicas": 5}, {"minReplicas": 1, "maxReplicas": 5}),
    "autoscaling.maxReplicas": ({"minReplicas": 2, "maxReplicas": 5}, {"minReplicas": 2, "maxReplicas": 4}),
}
"""A part of the spec before and after, where more than the field must change for the server to take it."""

TOGETHER = {"scale": ("replicas", "autoscaling"), "runtime": ("engine", "precision", "maxAccuracyDrop")}
"""Fields that are one question: who scales, and what runs the network."""

FEW: Special = {
    "maxAccuracyDrop": st.floats(0.005, 1),
    "alarms.[].name": st.sampled_from(("seven", "eight")),
    "alarms.[].labels": st.sampled_from((["7"], ["7", "写真"])),
    "replicas": st.sampled_from((0, 1, 3)),
    "parallelism": st.integers(1, 3),
    "activeDeadlineSeconds": st.integers(3600, 31_536_000),
    "ttlSecondsAfterFinished": st.integers(3600, 31_536_000),
}
"""Few pods, and time enough; what a time to live removes does not come back."""


@dataclass(frozen=True)
class Change:
    """A spec before and after, and the fields that it is about."""

    fields: tuple[Path, ...]
    before: Object
    after: Object


def mutable_fields(kind: str) -> list[Path]:
    """All fields that can have another value and may change; a kind of things of which there is one can't."""
    schema = SCHEMAS[kind]
    fields = [path for path in leaves(schema) if not _has_one_value(schema, path)]
    if kind == "LeptonTrainingJob":
        free = {str(TrainingJobSpec.model_fields[name].alias) for name in MUTABLE_FIELDS}
        fields = [path for path in fields if path[0] in free]
    return fields


def _has_one_value(schema: Any, path: Path) -> bool:
    node = node_at(schema, path)
    return len(node.get("enum", ())) == 1 and "default" in node


def part_of(path: Path) -> Path:
    """The part of the spec that a field is in; some fields are one question."""
    for part, names in TOGETHER.items():
        if path[0] in names:
            return (part,)
    return path[:2] if path[0] == "podTemplate" else path[:1]


def changes(kind: str, taken: Taken) -> list[Change]:
    """Pairs of specs that together change every field that may change."""
    parts: dict[Path, list[Path]] = defaultdict(list)
    for path in mutable_fields(kind):
        parts[part_of(path)].append(path)
    specs = good_specs(kind)
    groups = [tuple(filter(None, group)) for group in zip_longest(*parts.values())]
    return [_change(kind, group, specs, taken) for group in groups]


def _change(kind: str, fields: tuple[Path, ...], specs: Iterator[Object], taken: Taken) -> Change:
    before = next(spec for spec in (_prepared(spec, fields) for spec in specs) if taken(kind, spec))
    after = before
    for field in fields:
        after = next(spec for spec in _changed(kind, after, field) if taken(kind, spec))
    return Change(fields, before, after)


def _prepared(spec: Object, fields: tuple[Path, ...]) -> Object:
    """The spec with what the fields need around them."""
    spec = deepcopy(spec)
    for field in fields:
        for name in TOGETHER.get(part_of(field)[0], ()):
            spec.pop(name, None)
        pair, name = PAIRS.get(".".join(field)), ".".join(field)
        held = [value for start, value in HOLDERS.items() if f"{name}.".startswith(f"{start}.")]
        if pair or held:
            _put(spec, _place(field), deepcopy(pair[0] if pair else held[0]))
    return spec


def _changed(kind: str, spec: Object, field: Path) -> Iterator[Object]:
    """The spec with another value of a field, and another."""
    name = ".".join(field)
    if name in PAIRS:
        changed = deepcopy(spec)
        _put(changed, _place(field), deepcopy(PAIRS[name][1]))
        yield changed
        return
    schema = SCHEMAS[kind]
    now = found_at(with_defaults(schema, spec), field)
    for value in examples(values(node_at(schema, field), field, FEW), 15):
        changed = deepcopy(spec)
        _put(changed, field, deepcopy(value))
        if found_at(with_defaults(schema, changed), field) != now:
            yield changed
    raise AssertionError(f"no other value of {kind} {name} is taken beside {now}")


def _place(field: Path) -> Path:
    return field[:2] if field[0] == "podTemplate" else field[:1]


def _put(holder: Any, path: Path, value: Any) -> None:
    """Set a field, in every item of lists; what is missing on the way is made."""
    step, rest = path[0], path[1:]
    if step == "[]":
        for at, item in enumerate(holder):
            if rest:
                _put(item, rest, value)
            else:
                holder[at] = value
    elif rest:
        _put(holder.setdefault(step, {}), rest, value)
    else:
        holder[step] = value


def differing(kind: str, change: Change) -> set[Path]:
    """The fields whose values differ, as the server holds them."""
    schema = SCHEMAS[kind]
    before, after = (with_defaults(schema, spec) for spec in (change.before, change.after))
    return {path for path in mutable_fields(kind) if found_at(before, path) != found_at(after, path)}
