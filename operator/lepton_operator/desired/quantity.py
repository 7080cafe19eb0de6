"""Quantities as the API server writes them back, so that what is desired can be compared with what is live."""

from fractions import Fraction
from math import ceil

from lepton_operator.api.common import Resources

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"m": Fraction(1, 1000), "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "P": 10**15, "E": 10**18}


def amount(quantity: str) -> Fraction:
    """The exact value of a quantity ("500m" -> 1/2)."""
    for suffix, factor in (_BINARY | _DECIMAL).items():
        if quantity.endswith(suffix):
            return Fraction(quantity.removesuffix(suffix)) * Fraction(factor)
    return Fraction(quantity)


def canonical(quantity: str) -> str:
    """The API server's form: the largest suffix of the same family without a fraction ("1000m" -> "1")."""
    value = amount(quantity)
    if value == 0:
        return "0"
    if any(quantity.endswith(suffix) for suffix in _BINARY):
        for suffix, factor in sorted(_BINARY.items(), key=lambda item: -item[1]):
            if value % factor == 0:
                return f"{value // factor}{suffix}"
    if value.denominator != 1:
        return f"{ceil(value * 1000)}m"
    for suffix in ("E", "P", "T", "G", "M", "k"):
        factor = int(_DECIMAL[suffix])
        if value % factor == 0:
            return f"{value // factor}{suffix}"
    return str(value)


def canonical_resources(resources: Resources) -> dict[str, dict[str, str]]:
    """A container's `resources`; empty parts are left out."""
    parts = {"requests": resources.requests, "limits": resources.limits}
    return {
        part: {name: canonical(quantity) for name, quantity in amounts.items()}
        for part, amounts in parts.items()
        if amounts
    }


def threads(resources: Resources) -> int:
    """How many threads a container's pools get: ceil(limits.cpu, else requests.cpu, else 1)."""
    for amounts in (resources.limits, resources.requests):
        if amounts and "cpu" in amounts:
            return max(1, ceil(amount(amounts["cpu"])))
    return 1
