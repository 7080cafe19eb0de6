"""Built-in data: 1,797 real handwritten digits (8x8, grey), taken from the scikit-learn wheel.

`python -m lepton_workloads.builtin WHEEL_OR_DIR OUT.npz` runs when an image is built, so that neither
scikit-learn nor a download is needed at run time. The file holds `images` uint8 (1797, 8, 8) scaled from
0..16 to 0..255, `labels` int32 (1797,), and `licence`, a text.
"""

import gzip
import io
import os
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

BUILTIN_DIR_ENV = "LEPTON_BUILTIN_DIR"
_DATA = "sklearn/datasets/data/digits.csv.gz"
_DESCRIPTION = "sklearn/datasets/descr/digits.rst"


@dataclass(frozen=True)
class Digits:
    """The built-in set `digits`; sample i is named `names[i]`, which the splits are drawn by."""

    images: npt.NDArray[np.uint8]
    """(1797, 8, 8), 0 is the background."""
    labels: npt.NDArray[np.int32]
    """(1797,), the digit."""

    @property
    def names(self) -> list[str]:
        """As files of an image folder would be named: `<digit>/<index>.png`."""
        return [f"{label}/{index:04d}.png" for index, label in enumerate(self.labels)]


def digits_file() -> Path:
    """Where the image build put the digits: LEPTON_BUILTIN_DIR, by default beside this module."""
    default = Path(__file__).parent / "builtin_data"
    return Path(os.environ.get(BUILTIN_DIR_ENV, default)) / "digits.npz"


def load_digits(path: Path | None = None) -> Digits:
    """Read the digits.

    Raises:
        FileNotFoundError: the image was built without them.
    """
    with np.load(path or digits_file(), allow_pickle=False) as data:
        return Digits(images=data["images"], labels=data["labels"])


def extract_digits(source: Path, target: Path) -> None:
    """Write the npz from a scikit-learn wheel, or from a folder that holds `sklearn/`."""
    table = np.loadtxt(io.BytesIO(gzip.decompress(_read(source, _DATA))), delimiter=",", dtype=np.int32)
    if table.shape != (1797, 65):
        raise ValueError(f"expected 1797 rows of 64 pixels and a label, found {table.shape}")
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    licence = "\n\n".join((_read(source, _DESCRIPTION).decode(), _licence(source)))
    target.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(target, images=images, labels=table[:, 64], licence=np.array(licence))


def _read(source: Path, name: str) -> bytes:
    if source.is_dir():
        return (source / name).read_bytes()
    with zipfile.ZipFile(source) as wheel:
        return wheel.read(name)


def _licence(source: Path) -> str:
    """scikit-learn's licence (BSD-3-Clause), wherever its metadata keeps it."""
    endings = (".dist-info/licenses/COPYING", ".dist-info/COPYING")
    if source.is_dir():
        found = list(source.glob("scikit_learn-*.dist-info/**/COPYING"))
        return found[0].read_text() if found else "scikit-learn: BSD-3-Clause"
    with zipfile.ZipFile(source) as wheel:
        for name in wheel.namelist():
            if name.endswith(endings):
                return wheel.read(name).decode()
    return "scikit-learn: BSD-3-Clause"


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python -m lepton_workloads.builtin WHEEL_OR_DIR OUT.npz")
    extract_digits(Path(sys.argv[1]), Path(sys.argv[2]))
