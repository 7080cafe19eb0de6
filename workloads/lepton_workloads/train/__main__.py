"""`python -m lepton_workloads.train`: the main module of a training container."""

from lepton_workloads.termination import run_and_exit
from lepton_workloads.train.run import main, set_up_environment

set_up_environment()
run_and_exit(main)
