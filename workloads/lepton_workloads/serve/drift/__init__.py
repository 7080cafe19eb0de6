"""Drift: the sample of predictions that is looked at, the window, the verdict."""
