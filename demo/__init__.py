"""`make demo`: one command from a bare machine to a network that answers, on a real Kubernetes.

Needs the standard library only; what needs more (pictures) runs in the virtual environment.
"""
