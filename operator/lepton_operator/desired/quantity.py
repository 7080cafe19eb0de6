"""Quantities as the API server writes them back, so that desired and live can be compared."""

from fractions import Fraction
from functools import lru_cache
from math import ceil

from lepton_operator.api.common import Resources

_BINARY: dict[str, Fraction | int] = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
    "Ei": 2**60,
}
_DECIMAL: dict[str, Fraction | int] = {
    "m": Fraction(1, 1000),
    "k": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "E": 10**18,
}


@lru_cache(maxsize=1024)
def amount(quantity: str) -> Fraction:
    """The exact value of a quantity ("500m" -> 1/2)."""
    for suffix, factor in (_BINARY | _DECIMAL).items():
        if quantity.endswith(suffix):
            return Fraction(quantity.removesuffix(suffix)) * Fraction(factor)
    return Fraction(quantity)


@lru_cache(maxsize=1024)
def canonical(quantity: str) -> str:
    """The API server's form ("1000m" is "1", "1024Mi" is "1Gi").

    Container resources are rounded up to thousandths (SetDefaults_ResourceList); then the largest suffix
    without a fraction is taken (resource.Quantity.CanonicalizeBytes): a binary one only when the quantity
    came with one, is whole and at least 1024.
    """
    thousandths = ceil(amount(quantity) * 1000)
    if thousandths == 0:
        return "0"
    if thousandths % 1000:
        return f"{thousandths}m"
    value = thousandths // 1000
    binary = value >= 1024 and any(quantity.endswith(suffix) for suffix in _BINARY)
    family = (
        _BINARY if binary else {suffix: int(factor) for suffix, factor in _DECIMAL.items() if suffix != "m"}
    )
    for suffix, factor in sorted(family.items(), key=lambda item: -item[1]):
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
