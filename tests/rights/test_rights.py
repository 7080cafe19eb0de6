"""The operator's rights hold no verb that it doesn't need: read from what the API server saw in all tests before."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from lepton_cluster.layout import Layout

DEPLOY = Path(__file__).parents[2] / "deploy"
ACCOUNT = ":lepton-operator"

Right = tuple[str, str, str]
"""group, resource (with its subresource), verb."""

UNUSED: dict[Right, str] = {}
"""Rights that no test uses, each with its reason."""


@pytest.fixture(scope="module")
def audit() -> list[Path]:
    """The API server's audit log and what was rotated away, oldest first."""
    try:
        log = Layout.of(Path(os.environ["KUBECONFIG"]).parent).audit_log
    except KeyError as error:
        raise pytest.UsageError(f"{error} is not set: run `make test`, which brings a cluster") from error
    return [*sorted(log.parent.glob(f"{log.stem}-*{log.suffix}")), log]


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


def requests(logs: list[Path]) -> Iterator[tuple[Right, int]]:
    """What the operator's accounts asked for, with the answer's code."""
    for path in logs:
        with path.open() as lines:
            for line in lines:
                event = json.loads(line)
                user, about = event["user"]["username"], event.get("objectRef")
                if not user.endswith(ACCOUNT) or about is None:
                    continue
                resource = "/".join(filter(None, (about["resource"], about.get("subresource"))))
                right = (about.get("apiGroup", ""), resource, event["verb"])
                yield right, event.get("responseStatus", {}).get("code", 0)


def test_every_right_was_used(audit: list[Path]) -> None:
    used = {right for right, code in requests(audit) if code not in (401, 403)}
    assert used, "no request of the operator is in the audit log: run all tests, not only this one"
    unused = granted() - used - set(UNUSED)
    assert not unused, f"Take these from deploy/, or say in UNUSED why they stay: {sorted(unused)}"
    needless = set(UNUSED) & used
    assert not needless, f"These are used: take them from UNUSED: {sorted(needless)}"
