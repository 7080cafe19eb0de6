"""Quantities against the rules of k8s.io/apimachinery/pkg/api/resource."""

import re
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_operator.api.common import QUANTITY_PATTERN, Resources
from lepton_operator.desired.quantity import amount, canonical, canonical_resources, threads

DECIMAL = ["", "m", "k", "M", "G", "T", "P", "E"]
BINARY = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"]

quantities = st.builds(
    lambda whole, part, suffix: f"{whole}{part}{suffix}",
    st.integers(0, 10**7),
    st.one_of(st.just(""), st.integers(0, 9999).map(lambda digits: f".{digits:04d}")),
    st.sampled_from(DECIMAL + BINARY),
)


def as_the_api_server(quantity: str) -> str:
    """SetDefaults_ResourceList rounds up to milli; then CanonicalizeBytes, written after its Go source."""
    suffix = re.sub(r"[0-9.]", "", quantity)
    milli = ceil(amount(quantity) * 1000)
    if milli == 0:
        return "0"
    if suffix in BINARY and milli >= 1024 * 1000 and milli % 1000 == 0:
        mantissa, exponent = milli // 1000, 0
        while mantissa % 1024 == 0 and exponent < len(BINARY):
            mantissa, exponent = mantissa // 1024, exponent + 1
        return f"{mantissa}{['', *BINARY][exponent]}"
    mantissa, exponent = milli, -3
    while mantissa % 1000 == 0 and exponent < 18:
        mantissa, exponent = mantissa // 1000, exponent + 3
    return f"{mantissa}{ {-3: 'm', 0: '', 3: 'k', 6: 'M', 9: 'G', 12: 'T', 15: 'P', 18: 'E'}[exponent] }"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("0", "0"),
        ("0Mi", "0"),
        ("1", "1"),
        ("1000m", "1"),
        ("1500m", "1500m"),
        ("0.5", "500m"),
        ("0.0001", "1m"),
        ("0.9995", "1"),
        ("1.0", "1"),
        ("2.50", "2500m"),
        ("1000", "1k"),
        ("1024", "1024"),
        ("1500", "1500"),
        ("2000k", "2M"),
        ("1024Mi", "1Gi"),
        ("1.5Gi", "1536Mi"),
        ("1000Mi", "1000Mi"),
        ("0.5Ki", "512"),
        ("0.9765625Ki", "1k"),
        ("1.953125Ki", "2000"),
        ("0.1Gi", "107374182400m"),
        ("128M", "128M"),
        ("2E", "2E"),
        ("2Ei", "2Ei"),
    ],
)
def test_canonical_forms(written: str, kept: str) -> None:
    assert canonical(written) == kept
    assert as_the_api_server(written) == kept


@given(quantities)
def test_agrees_with_the_api_server(quantity: str) -> None:
    assert canonical(quantity) == as_the_api_server(quantity)


@given(quantities)
def test_canonical_keeps_the_amount_and_stays(quantity: str) -> None:
    kept = canonical(quantity)
    assert canonical(kept) == kept
    assert re.match(QUANTITY_PATTERN, kept)
    assert amount(kept) == Fraction(ceil(amount(quantity) * 1000), 1000)


@pytest.mark.parametrize(
    ("limits", "requests", "count"),
    [
        (None, None, 1),
        ({"memory": "1Gi"}, {"cpu": "400m"}, 1),
        ({"cpu": "1500m"}, {"cpu": "4"}, 2),
        (None, {"cpu": "3"}, 3),
        ({"cpu": "0"}, None, 1),
    ],
)
def test_threads(limits: dict[str, str] | None, requests: dict[str, str] | None, count: int) -> None:
    assert threads(Resources(limits=limits, requests=requests)) == count


def test_empty_parts_are_left_out() -> None:
    assert canonical_resources(Resources()) == {}
    assert canonical_resources(Resources(limits={}, requests={"cpu": "1000m"})) == {"requests": {"cpu": "1"}}
