"""Decisions: pure functions `(Observed, Context, now) -> Plan`, one file per kind or policy."""

from collections.abc import Callable

from lepton_operator.actions import Plan
from lepton_operator.context import Context
from lepton_operator.facts import Observed

Decision = Callable[[Observed, Context, float], Plan]
"""now is in seconds since the epoch."""
