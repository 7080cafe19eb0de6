"""The operator's rights hold no verb that it doesn't need: read from what the API server saw in all tests before."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from tests.audit import Request, operator_requests

DEPLOY = Path(__file__).parents[2] / "deploy"

Right = tuple[str, str, str]
"""group, resource (with its subresource), verb."""

UNUSED: dict[Right, str] = {}
"""Rights that no test uses, each with its reason."""


def granted() -> set[Right]:
    """Every verb of the roles that the operator is bound to."""
    rights: set[Right] = set()
    for path in ("cluster/rights.yaml", "base/account.yaml"):
        for item in yaml.safe_load_all((DEPLOY / path).read_text()):
            for rule in item.get("rules", ()):
                rights |= {
                    (group, resource, verb)
                    for group in rule["apiGroups"]
                    for resource in rule["resources"]
                    for verb in rule["verbs"]
                }
    return rights


def exercised(request: Request) -> Iterator[Right]:
    """The rights that a request needed and had."""
    if request.code in (401, 403):
        return
    yield request.group, request.resource, request.verb
    if request.verb == "patch" and request.code == 201:
        # An apply that makes its object is asked for the right to create as well.
        yield request.group, request.resource, "create"


def test_every_right_was_used() -> None:
    used = {right for request in operator_requests() for right in exercised(request)}
    assert used, "no request of the operator is in the audit log: run all tests, not only this one"
    unused = granted() - used - set(UNUSED)
    assert not unused, f"Take these from deploy/, or say in UNUSED why they stay: {sorted(unused)}"
    needless = set(UNUSED) & used
    assert not needless, f"These are used: take them from UNUSED: {sorted(needless)}"
