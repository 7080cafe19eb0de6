"""Own code: what Lepton runs around a program of the user's, and the module that helps such a program."""
