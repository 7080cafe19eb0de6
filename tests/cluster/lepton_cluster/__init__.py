"""Lepton's local cluster: a real Kubernetes on a bare Linux machine."""
