"""Pods, Warning Events, refusals, claims -> the one fault a person should look at first.

One vocabulary for all kinds, one file for each source. A fault says which container, what happened (exit code,
limit, restarts, last words) and what to do. State decides; a Warning Event only explains what the state
already shows, so a lost one costs the explanation and nothing else.
"""

from lepton_operator.faults.disruptions import is_disrupted
from lepton_operator.faults.fault import EVICTED, IMAGE_PULL_FAILED, NODE_LOST, Fault
from lepton_operator.faults.outcomes import outcome_of
from lepton_operator.faults.pods import look_again, pod_fault, worst_fault
from lepton_operator.faults.probes import GRACE_SECONDS
from lepton_operator.faults.refusals import creation_fault, deployment_fault, refusal_fault
from lepton_operator.faults.volumes import claim_fault

__all__ = [
    "EVICTED",
    "GRACE_SECONDS",
    "IMAGE_PULL_FAILED",
    "NODE_LOST",
    "Fault",
    "claim_fault",
    "creation_fault",
    "deployment_fault",
    "is_disrupted",
    "look_again",
    "outcome_of",
    "pod_fault",
    "refusal_fault",
    "worst_fault",
]
