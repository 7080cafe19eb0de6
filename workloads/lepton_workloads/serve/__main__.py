"""`python -m lepton_workloads.serve`."""

import os

# Read by numpy's OpenBLAS when it is loaded: its pool of threads would only take memory here.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from lepton_workloads.logs import set_up_logs
from lepton_workloads.serve.runner import main
from lepton_workloads.termination import exit_now, run_main

if __name__ == "__main__":
    set_up_logs()
    exit_now(run_main(main))
