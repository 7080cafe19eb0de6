"""In a quiet cluster nothing is written: objects at rest, good and bad, watched for five minutes.

The minutes pass while other tests run; this one comes last and waits for what is left of them.
"""

import time

from tests.integration.conftest import Quiet
from tests.integration.kube import is_settled, until

WINDOW_SECONDS = 300.0


def test_nothing_is_written_for_five_minutes(quiet: Quiet) -> None:
    visits = quiet.box.operator.total("lepton_reconcile_total")
    until(
        lambda: time.monotonic() - quiet.since >= WINDOW_SECONDS,
        "the end of the five minutes",
        WINDOW_SECONDS + 10,
        poll=1.0,
    )
    writes = quiet.writes()
    assert writes == [], f"{len(writes)} writes: {writes[:20]}"
    # It did look: many times over, at every object.
    assert quiet.box.operator.total("lepton_reconcile_total") >= max(visits, 10 * quiet.objects)
    assert is_settled([quiet.box.get("LeptonModel", "digits")])
    assert quiet.box.operator.ask("/healthz") == (200, "ok")
