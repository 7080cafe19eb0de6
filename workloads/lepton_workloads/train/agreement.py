"""Do all workers hold the same weights? If not, the version would depend on who is asked."""

from collections import Counter
from collections.abc import Sequence

from lepton_workloads.contract.outcome import Failure
from lepton_workloads.termination import WorkloadError


def check_agreement(digests: Sequence[str], epoch: int) -> None:
    """Compare the weights' digests of all workers, in the order of the index, after an epoch (1-based).

    All workers see the same digests and so end alike.

    Raises:
        WorkloadError: InternalError, naming those that differ from most of the others.
    """
    [(common, _), *others] = Counter(digests).most_common()
    if not others:
        return
    strange = [(worker, digest) for worker, digest in enumerate(digests) if digest != common]
    names = ", ".join(f"worker {worker} ({digest[:12]})" for worker, digest in strange[:5])
    text = (
        f"after epoch {epoch} the weights differ between the workers: {names} from worker {digests.index(common)} "
        f"({common[:12]}); do all pods run the same image on machines of one kind?"
    )
    raise WorkloadError(Failure.INTERNAL_ERROR, text, terminal=False)
