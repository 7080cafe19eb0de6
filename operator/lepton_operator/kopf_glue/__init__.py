"""The only rooms that import kopf: it watches the three Lepton kinds and nothing else."""
