"""A right is missing: a condition names it, and giving it back is the cure."""

import pytest

from tests.integration.kube import Object
from tests.integration.objects import chain
from tests.integration.rights import role_path, role_rules
from tests.integration.sandbox import Lab, Sandbox

MISSING = {
    "create jobs.batch": ("LeptonDataset", "digits"),
    "create persistentvolumeclaims": ("LeptonDataset", "digits"),
    "patch services": ("LeptonTrainingJob", "cnn"),
    "patch deployments.apps": ("LeptonModel", "digits"),
}


def without(rules: list[Object], right: str) -> list[Object]:
    """The rules less one verb of one resource."""
    verb, _, resource = right.partition(" ")
    plural, _, group = resource.partition(".")
    left: list[Object] = []
    for rule in rules:
        if plural not in rule["resources"] or group not in rule["apiGroups"]:
            left.append(rule)
            continue
        others = [name for name in rule["resources"] if name != plural]
        if others:
            left.append(rule | {"resources": others})
        if verbs := [one for one in rule["verbs"] if one != verb]:
            left.append(rule | {"resources": [plural], "verbs": verbs})
    return left


def set_rules(box: Sandbox, rules: list[Object]) -> None:
    """The operator's Role holds these."""
    box.kube.patch(role_path(box.namespace), {"rules": rules})


@pytest.mark.parametrize("right", MISSING)
def test_a_missing_right_is_named_and_giving_it_back_is_the_cure(lab: Lab, right: str) -> None:
    kind, name = MISSING[right]
    with lab.sandbox(f"right-{right}", forked=True) as box:
        rules = role_rules(box.kube, box.namespace)
        assert without(rules, right) != rules
        set_rules(box, without(rules, right))
        box.operator.start()
        box.create(*chain())
        said = box.wait_reason(kind, name, "Forbidden")
        assert f"lacks the right to {right}" in said["message"]
        assert box.condition(kind, name, "Reconciling")["status"] == "True"
        set_rules(box, rules)
        box.wait_dump(lab.chain_end())


def test_a_status_that_must_not_be_written_is_told_in_metrics_and_logs(lab: Lab) -> None:
    with lab.sandbox("right-status", forked=True) as box:
        rules = role_rules(box.kube, box.namespace)
        set_rules(box, without(rules, "patch leptonmodels/status.lepton.ai"))
        box.operator.start()
        box.create(*chain())
        box.wait_logged("leptonmodels/status")
        assert box.operator.total("lepton_reconcile_errors_total", kind="LeptonModel", reason="Forbidden") > 0
        set_rules(box, rules)
        box.wait_dump(lab.chain_end())
