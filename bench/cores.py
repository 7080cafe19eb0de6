"""Which cores there are to pin processes to."""

import os
from collections.abc import Sequence

from bench.client import BenchError


def cores(count: int) -> Sequence[int]:
    """CPUs of this machine that this process may use.

    Raises:
        BenchError: there are fewer.
    """
    found = sorted(os.sched_getaffinity(0))
    if len(found) < count:
        raise BenchError(f"{count} cores are needed, there are {len(found)}")
    return found[:count]
