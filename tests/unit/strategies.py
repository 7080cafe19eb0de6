"""Specs drawn from the schemas of the CRDs: as the schemas say, and broken in one place.

Texts are taken from `WORDS` half of the time, so that rules that no chance fulfils (addresses, names, sums)
are passed often enough to see what comes behind them.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.unit.schema import Schema

Path = tuple[str, ...]
"""Steps from the spec down: property names, [] for items, {} for values of a map."""
Special = Mapping[str, SearchStrategy[Any]]
"""Dotted path -> what is drawn there instead of what the schema says."""

NAMES = ("digits", "cnn", "lepton-store", "photos", "constructor", "true", "null", "x" * 40)
AMOUNTS = ("1", "500m", "0.5", "2Gi", "1500Mi", "100k", 0, 1, 2)
KEYS = ("team", "example.com/team", "kubernetes.io/os", "A.b_c-9")
WORDS: dict[str, tuple[Any, ...]] = {
    "name": NAMES,
    "claimName": NAMES,
    "key": ("password", "a.b_c-d", ".hidden"),
    "path": ("", "photos/2026", "a/b/c", "ümläute/写真", "with space", "..hidden", "a//b"),
    "uri": (
        "pvc://models/digits",
        "pvc://models",
        "pvc://photos/ümläute/写真",
        "http://models.example/digits.tar.gz",
        "https://models.example:8443/a/b.tar?x=1#y",
    ),
    "sha256": ("0" * 64, "0123456789abcdef" * 4),
    "url": (
        "http://alarms.example/lepton",
        "https://alarms.example:8443/a?b=1",
        "http://10.0.0.1",
    ),
    "mountPath": ("/data", "/dev/shm", "/tmp/more", "/srv/ümläute/写真"),
    "subPath": ("a", "photos/2026"),
    "sizeLimit": ("64Mi", "1024Mi", "2Gi"),
    "prefix": ("", "MY_", "a.b"),
    "value": ("", "gpu", "A.b_c-9"),
    "priorityClassName": ("nobody", "system-cluster-critical"),
    "runtimeClassName": ("nobody",),
    "schedulerName": ("nobody", "default-scheduler"),
    "{}": ("", "vision", "A.b_c-9"),
}
VARIABLES = ("A", "_b", "MY_VALUE", "a.b-c")
TERM = {"matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}
AFFINITIES: tuple[Any, ...] = (
    {},
    {
        "nodeAffinity": {
            "preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 1, "preference": TERM}]
        }
    },
    {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]}}},
    {"podAntiAffinity": None},
)

ANYTHING: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(-1e300, 1e300)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=10), inner, max_size=3),
    max_leaves=6,
)


def values(schema: Schema, path: Path = (), special: Special | None = None) -> SearchStrategy[Any]:
    """What a schema takes; rules in CEL are left to the server."""
    chosen = (special or {}).get(".".join(path))
    if chosen is not None:
        return chosen
    if "enum" in schema:
        return st.sampled_from(schema["enum"])
    if schema.get("x-kubernetes-int-or-string"):
        return st.sampled_from(AMOUNTS) | st.integers(-5, 10**12) | st.text(max_size=32)
    draw: Callable[[Schema, Path, Special | None], SearchStrategy[Any]] = DRAWN[schema["type"]]
    return draw(schema, path, special)


def _texts(schema: Schema, path: Path, _special: Special | None) -> SearchStrategy[Any]:
    low, high = schema.get("minLength", 0), schema.get("maxLength", 4096)
    free = st.text(min_size=low, max_size=min(high, low + 30))
    longest = st.characters(codec="utf-8").map(lambda one: one * high)
    words = VARIABLES if path[-3:] == ("env", "[]", "name") else WORDS.get(path[-1], ())
    fitting = [word for word in words if low <= len(word) <= high]
    return st.one_of(*([st.sampled_from(fitting)] * 4 if fitting else ()), free, longest)


def _integers(schema: Schema, _path: Path, _special: Special | None) -> SearchStrategy[Any]:
    low, high = schema.get("minimum", -(2**31)), schema.get("maximum", 2**31 - 1)
    return st.sampled_from((low, high)) | st.integers(low, min(high, low + 10)) | st.integers(low, high)


def _numbers(schema: Schema, _path: Path, _special: Special | None) -> SearchStrategy[Any]:
    low, high = schema.get("minimum", -1e6), schema.get("maximum", 1e6)
    open_low, open_high = schema.get("exclusiveMinimum", False), schema.get("exclusiveMaximum", False)
    first = math.floor(low) + 1 if open_low else math.ceil(low)
    last = math.ceil(high) - 1 if open_high else math.floor(high)
    whole = list(range(first, min(last, first + 3) + 1))
    numbers = st.floats(low, high, exclude_min=open_low, exclude_max=open_high)
    return numbers | st.sampled_from(whole) if whole else numbers


def _lists(schema: Schema, path: Path, special: Special | None) -> SearchStrategy[Any]:
    low, high = schema.get("minItems", 0), schema.get("maxItems", 64)
    items = values(schema["items"], (*path, "[]"), special)
    keys = schema.get("x-kubernetes-list-map-keys")
    unique = (lambda item: tuple(item[key] for key in keys)) if keys else None
    few = st.lists(items, min_size=low, max_size=min(high, low + 2), unique_by=unique)
    return few if keys else few | items.map(lambda item: [item] * high)


def _objects(schema: Schema, path: Path, special: Special | None) -> SearchStrategy[Any]:
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return st.sampled_from(AFFINITIES) | st.dictionaries(st.text(max_size=10), ANYTHING, max_size=2)
    if "additionalProperties" in schema:
        amounts = schema["additionalProperties"].get("x-kubernetes-int-or-string")
        words = ("cpu", "memory", "ephemeral-storage", "nvidia.com/gpu") if amounts else KEYS
        keys = st.one_of(*[st.sampled_from(words)] * 6, st.text(max_size=40))
        inner = values(schema["additionalProperties"], (*path, "{}"), special)
        return st.dictionaries(keys, inner, max_size=min(3, schema.get("maxProperties", 3)))
    required = set(schema.get("required", ()))
    parts = {
        name: values(child, (*path, name), special) for name, child in schema.get("properties", {}).items()
    }
    return st.fixed_dictionaries(
        {name: part for name, part in parts.items() if name in required},
        optional={name: part for name, part in parts.items() if name not in required},
    )


DRAWN: dict[str, Callable[[Schema, Path, Special | None], SearchStrategy[Any]]] = {
    "string": _texts,
    "integer": _integers,
    "number": _numbers,
    "boolean": lambda _schema, _path, _special: st.booleans(),
    "array": _lists,
    "object": _objects,
}


@st.composite
def broken(draw: DrawFn, schema: Schema, base: SearchStrategy[Any] | None = None) -> Any:
    """A spec (by default any that the schema takes) with one thing in it that is wrong, or at least strange."""
    spec = deepcopy(draw(values(schema) if base is None else base))
    places = list(_places(schema, spec))
    holder, key, node = draw(st.sampled_from(places)) if places else (spec, "unknown", schema)
    harm = draw(st.sampled_from(("type", "range", "missing", "unknown", "null")))
    if harm == "missing" and isinstance(holder, dict):
        del holder[key]
    elif harm == "null":
        holder[key] = None
    elif harm == "range":
        holder[key] = draw(_out_of_range(node))
    elif harm == "unknown" and isinstance(holder[key], dict):
        holder[key][draw(st.sampled_from(("unknown", "Source", "x-y", "")))] = draw(ANYTHING)
    else:
        holder[key] = draw(ANYTHING)
    return spec


def _out_of_range(node: Schema) -> SearchStrategy[Any]:
    """Just beyond the limits, and far."""
    kind = node.get("type")
    if kind in ("integer", "number"):
        low, high = node.get("minimum", 0), node.get("maximum", 2**31)
        return st.sampled_from((low - 1, high + 1, low, high, -(2**63), 2**63 - 1, low + 0.5, 1e300))
    if kind == "string":
        sizes = (0, node.get("maxLength", 64) + 1, 100_000)
        return st.sampled_from(sizes).flatmap(lambda size: st.sampled_from(("x" * size, "写" * size)))
    if kind == "array":
        return st.just([None] * (node.get("maxItems", 100) + 1))
    return st.just({f"k{number}": {} for number in range(node.get("maxProperties", 0) + 1)})


def _places(schema: Schema, value: Any) -> Iterator[tuple[Any, Any, Schema]]:
    """Everything inside a value: what holds it, under which key, its schema."""
    if isinstance(value, dict):
        for name, item in list(value.items()):
            child = schema.get("properties", {}).get(name) or schema.get("additionalProperties")
            if isinstance(child, dict):
                yield value, name, child
                yield from _places(child, item)
    elif isinstance(value, list) and value and not all(item is value[0] for item in value[1:]):
        for at, item in enumerate(value):
            yield value, at, schema["items"]
            yield from _places(schema["items"], item)


def leaves(schema: Schema, path: Path = ()) -> Iterator[Path]:
    """Every field that holds a value of its own; a map is one, lists and objects are their parts."""
    if "properties" in schema:
        for name, child in schema["properties"].items():
            yield from leaves(child, (*path, name))
    elif schema.get("type") == "array" and "properties" in schema["items"]:
        yield from leaves(schema["items"], (*path, "[]"))
    else:
        yield path


def node_at(schema: Schema, path: Path) -> Schema:
    """The schema of a field."""
    for step in path:
        schema = schema["items"] if step == "[]" else schema["properties"][step]
    return schema


def found_at(value: Any, path: Path) -> list[Any]:
    """All values that a spec holds for a field, none if it is left out."""
    if not path:
        return [value]
    step, rest = path[0], path[1:]
    if step == "[]":
        return [found for item in value for found in found_at(item, rest)]
    return found_at(value[step], rest) if isinstance(value, dict) and step in value else []


def drawn(strategy: SearchStrategy[Any], count: int, *, by_chance: bool = False) -> list[Any]:
    """So many different examples; the same ones in each run unless `by_chance`."""
    found: list[Any] = []

    @settings(
        max_examples=count,
        derandomize=not by_chance,
        database=None,
        deadline=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(strategy)
    def collect(example: Any) -> None:
        found.append(deepcopy(example))

    collect()
    return found
