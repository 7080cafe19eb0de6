"""The vocabulary: reasons, and what a fault is."""

from dataclasses import dataclass

IMAGE_PULL_FAILED = "ImagePullFailed"
UNSCHEDULABLE = "Unschedulable"
OUT_OF_MEMORY = "OutOfMemory"
CRASH_LOOP = "CrashLoop"
CONTAINER_FAILED = "ContainerFailed"
CONTAINER_CONFIG_ERROR = "ContainerConfigError"
PROBE_FAILING = "ProbeFailing"
VOLUME_NOT_READY = "VolumeNotReady"
QUOTA_EXCEEDED = "QuotaExceeded"
ADMISSION_DENIED = "AdmissionDenied"
SOURCE_NOT_FOUND = "SourceNotFound"
EVICTED = "Evicted"
NODE_LOST = "NodeLost"
DEADLINE_EXCEEDED = "DeadlineExceeded"

CONSEQUENCE = 5
"""Added to the rank of a pod that is being deleted: its end is the consequence of something else."""


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong, in one word and one sentence; `rank` orders by how much it explains."""

    reason: str
    message: str
    terminal: bool = False
    """Trying again gives the same end."""
    rank: int = 5
    ended_at: str = ""
    """When the container ended (RFC 3339), if it did: the first of a gang to end took the others with it."""
