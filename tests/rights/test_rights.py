"""The operator's rights hold no verb that it doesn't need: read from what the API server saw in all tests before."""

from pathlib import Path

import yaml

from tests.audit import operator_requests

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


def test_every_right_was_used() -> None:
    used = {
        (request.group, request.resource, request.verb)
        for request in operator_requests()
        if request.code not in (401, 403)
    }
    assert used, "no request of the operator is in the audit log: run all tests, not only this one"
    unused = granted() - used - set(UNUSED)
    assert not unused, f"Take these from deploy/, or say in UNUSED why they stay: {sorted(unused)}"
    needless = set(UNUSED) & used
    assert not needless, f"These are used: take them from UNUSED: {sorted(needless)}"
