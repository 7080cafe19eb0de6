"""Lepton's benchmark: what the operator costs and how fast it is, on a real control plane and simulated nodes."""
