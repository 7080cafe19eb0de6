"""Whether a live object already is what is desired, and the patch that makes a status so."""

from collections.abc import Mapping, Sequence
from typing import Any

from lepton_operator.facts import Json

_IGNORED = frozenset(("ownerReferences", "uid", "namespace"))
"""Of metadata: added by apply.py; that the live object is ours is checked by uid."""

_KEYS: Mapping[str, tuple[str, ...]] = {
    "containers": ("name",),
    "initContainers": ("name",),
    "env": ("name",),
    "volumes": ("name",),
    "imagePullSecrets": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("port", "containerPort", "protocol"),
}
"""Lists that server-side apply merges row by row (x-kubernetes-list-map-keys), and what tells their rows apart."""

_WHOLE = frozenset(("selector", "nodeSelector"))
"""Maps that belong to one manager as a whole: a key more selects other pods or nodes."""


def difference(live: Json, desired: Json) -> str | None:
    """Path of the first field of `desired` that `live` lacks or holds otherwise; None when contained.

    Lists are compared element by element; of those that server-side apply merges, only our rows count: to
    fight a row of somebody else's would take a write for ever. An empty mapping or list says the same as a
    missing one.
    """
    for name, value in desired.items():
        below = _difference(live.get(name), value, _IGNORED if name == "metadata" else frozenset())
        if below is not None:
            return f"{name}{below}"
    return None


def _difference(live: Any, desired: Any, ignored: frozenset[str] = frozenset()) -> str | None:
    """The path from here on, "" for this very value; built on the way back, for most values are equal."""
    if isinstance(desired, str):
        return None if live == desired else ""
    if isinstance(desired, dict):
        if not isinstance(live, dict):
            return None if not desired and live is None else ""
        for name, value in desired.items():
            held = live.get(name)
            below = _difference(held, value)
            if below is None and name in _WHOLE and len(held or ()) != len(value):
                below = ""
            if below is not None and name in _KEYS and isinstance(held, (list, tuple)):
                below = _difference_of_rows(held, value, _KEYS[name])
            if below is not None and name not in ignored:
                return f".{name}{below}"
        return None
    if isinstance(desired, (list, tuple)):
        held = live if isinstance(live, (list, tuple)) else () if live is None else None
        if held is None or len(held) != len(desired):
            return ""
        for at, (one, other) in enumerate(zip(held, desired, strict=True)):
            below = _difference(one, other)
            if below is not None:
                return f".{at}{below}"
        return None
    same = (type(live) is type(desired) and live == desired) or _same_number(live, desired)
    return None if same else ""


def _difference_of_rows(live: Sequence[Json], desired: Sequence[Json], keys: tuple[str, ...]) -> str | None:
    """Each wanted row must be there, wherever; the path names it by its place among the wanted ones."""
    rows = {tuple(row.get(key) for key in keys): row for row in live}
    for at, other in enumerate(desired):
        one = rows.get(tuple(other.get(key) for key in keys))
        below = "" if one is None else _difference(one, other)
        if below is not None:
            return f".{at}{below}"
    return None


def merge_patch(before: Json, after: Json) -> dict[str, Any]:
    """The whole of `after`, with an explicit null for every field that only `before` has."""
    patch: dict[str, Any] = {name: None for name in before if after.get(name) is None}
    for name, value in after.items():
        if value is None:
            continue
        held = before.get(name)
        patch[name] = (
            merge_patch(held if isinstance(held, Mapping) else {}, value)
            if isinstance(value, Mapping)
            else value
        )
    return patch


def restoring_patch(live: Json, desired: Json) -> dict[str, Any]:
    """A merge patch that makes the spec ours alone, lists and all; what it leaves out gets its default again.

    The number of replicas is kept where it isn't ours. The uid keeps another object from being patched.
    """
    spec = merge_patch(live["spec"], desired["spec"])
    if "replicas" not in desired["spec"]:
        spec.pop("replicas", None)
    meta = desired["metadata"]
    given = {part: meta[part] for part in ("labels", "annotations") if part in meta}
    return {"metadata": {**given, "uid": live["metadata"]["uid"]}, "spec": spec}


def without_nulls(value: Any) -> Any:
    """A copy without fields that are None, as the API server keeps it."""
    if isinstance(value, Mapping):
        return {name: without_nulls(held) for name, held in value.items() if held is not None}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [without_nulls(item) for item in value]
    return value


def _same_number(one: Any, other: Any) -> bool:
    """1 and 1.0 are one number in JSON; True is none."""
    numbers = (int, float)
    if isinstance(one, bool) or isinstance(other, bool):
        return False
    return isinstance(one, numbers) and isinstance(other, numbers) and one == other
