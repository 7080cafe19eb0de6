"""Whether a live object already is what is desired, and the patch that makes a status so."""

from collections.abc import Mapping, Sequence
from typing import Any

from lepton_operator.facts import Json

_IGNORED = frozenset(("ownerReferences", "uid", "namespace"))
"""Of metadata: added by apply.py; that the live object is ours is checked by uid."""


def difference(live: Json, desired: Json) -> str | None:
    """Path of the first field of `desired` that `live` lacks or holds otherwise; None when contained.

    Lists are compared element by element. An empty mapping or list says the same as a missing one.
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
            below = _difference(live.get(name), value)
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
