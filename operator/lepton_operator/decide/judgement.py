"""The gate: whether a trained network is good enough to be promoted."""

from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.conditions import State, Verdict
from lepton_operator.decide.common import Draft

GATE_NOT_PASSED = "GateNotPassed"
OVER_FOLDS = "crossValidationAccuracy"


def judge(draft: Draft, spec: TrainingJobSpec, value: float | None) -> None:
    """Compare the gate's figure; one that isn't reached ends the job, and its version stays where it is."""
    gate = spec.evaluation.gate
    if gate is None:
        return
    passed = value is not None and gate.is_passed(value)
    told = {"demand": gate.demand, "passed": passed}
    if value is not None:
        told["value"] = round(value, 6)
    draft.fields["evaluation"] = {**(draft.fields.get("evaluation") or {}), "gate": told}
    hold(draft)


def hold(draft: Draft) -> None:
    """A gate that was judged and not passed fails the job."""
    told = (draft.fields.get("evaluation") or {}).get("gate")
    if told is None or told["passed"]:
        return
    found = f"it is {told['value']:g}" if "value" in told else "the test split holds nothing to measure it by"
    digest = (draft.fields.get("result") or {}).get("digest", "")[:12]
    text = (
        f"the gate asks for {told['demand']}, and {found}: version {digest} stays in the store and is not "
        "served; train a better one with a new job, or ask for less"
    )
    draft.verdict = Verdict(State.FAILED, GATE_NOT_PASSED, text)
