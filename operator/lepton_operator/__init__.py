"""The Lepton operator: LeptonDataset, LeptonTrainingJob and LeptonModel, reconciled."""

__version__ = "0.1.0"
