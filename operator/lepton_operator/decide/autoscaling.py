"""Whether a model's autoscaler works: one that doesn't leaves the number of pods as it is, and all looks well."""

from lepton_operator.conditions import State, Verdict, conditions_by_type, seconds
from lepton_operator.desired.owner import Owner
from lepton_operator.facts import Json, Observed


def autoscaler_verdict(
    observed: Observed, owner: Owner, serving: Verdict, grace_seconds: float, now: float
) -> tuple[Verdict, float | None]:
    """What to say of a model that is served, and in how many seconds time alone may change it.

    Figures of new pods come late: for `grace_seconds` an autoscaler that has none is no news.
    """
    row = _failing(observed.children.get(("HorizontalPodAutoscaler", owner.name)))
    if row is None:
        return serving, None
    left = seconds(row["lastTransitionTime"]) + grace_seconds - now
    if left > 0:
        return serving, left
    said = row.get("message") or row.get("reason")
    text = (
        f"{serving.message}, but its autoscaler can't work: {said}: look at metrics-server, and set "
        "spec.resources.requests.cpu"
    )
    return Verdict(State.DONE, "AutoscalerFailing", text, trouble=True), None


def _failing(autoscaler: Json | None) -> Json | None:
    """The condition by which it says that it can't work."""
    rows = conditions_by_type(autoscaler or {})
    for kind in ("AbleToScale", "ScalingActive"):
        row = rows.get(kind, {})
        # With 0 replicas it rests, as it should.
        rests = row.get("reason") == "ScalingDisabled"
        if row.get("status") == "False" and not rests and row.get("lastTransitionTime"):
            return row
    return None
