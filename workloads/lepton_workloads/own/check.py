"""`python -m lepton_workloads.own.check`: before own code, so that it starts on whole data or not at all."""

from lepton_workloads.contract.outcome import Outcome
from lepton_workloads.contract.own_code import OWN_CHECKPOINTS, PROGRESS_DIR, PUBLISHED_FILE
from lepton_workloads.contract.tasks import CHECKPOINTS_DIR, DATASET_DIR
from lepton_workloads.logs import Log
from lepton_workloads.own.task import read_task
from lepton_workloads.paths import place
from lepton_workloads.storage import storage_errors, write_file
from lepton_workloads.termination import run_and_exit
from lepton_workloads.train.artifact import published_result
from lepton_workloads.train.data import open_dataset

log = Log(__name__)


def main() -> Outcome:
    """Check the data, make the folder of checkpoints, and leave a mark when a version is there already.

    Kubernetes always runs the next container: only own code itself can make use of the mark.

    Raises:
        WorkloadError: DatasetNotReady, InvalidData, StorageFailed.
    """
    task, index = read_task()
    with storage_errors("prepare the folders of own code"):
        (place(CHECKPOINTS_DIR) / OWN_CHECKPOINTS).mkdir(exist_ok=True)
        published = published_result()
        if published is not None:
            log.info("Found the version that an earlier pod published", digest=published.digest, index=index)
            write_file(place(PROGRESS_DIR) / PUBLISHED_FILE, published.digest)
            return Outcome()
    with storage_errors("read the prepared dataset"):
        open_dataset(place(DATASET_DIR), task.dataset_key)
    log.info("Checked the data", job=task.job, index=index, dataset=task.dataset_key)
    return Outcome()


if __name__ == "__main__":
    run_and_exit(main)
