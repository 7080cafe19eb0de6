"""What runs inside Lepton's pods: preparing data, training, fetching artifacts, serving."""

__version__ = "0.1.0"
