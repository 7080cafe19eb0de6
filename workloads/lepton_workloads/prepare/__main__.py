"""`python -m lepton_workloads.prepare`: the main module of a preparing container."""

from lepton_workloads.prepare.run import main
from lepton_workloads.termination import run_and_exit

run_and_exit(main)
