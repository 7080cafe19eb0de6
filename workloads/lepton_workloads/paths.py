"""Where volumes are: the contract's places, below `LEPTON_ROOT` (default `/`) so that tests need no root.

With LEPTON_ROOT=/somewhere, `/lepton/datasets` is `/somewhere/lepton/datasets`; nothing else changes.
"""

import os
from pathlib import Path, PurePosixPath

ROOT_ENV = "LEPTON_ROOT"


def place(path: PurePosixPath) -> Path:
    """The real folder for one of the contract's absolute paths."""
    return Path(os.environ.get(ROOT_ENV, "/")) / path.relative_to("/")
