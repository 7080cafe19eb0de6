"""`python -m demo.pictures FOLDER NPZ COUNT`: held-out digits as picture files, named `<label>_<number>.png|jpg`.

Held out means: in the test split of examples/01-digits, drawn by the same function with the same seed as the
preparation draws it. Runs in the virtual environment.
"""

import sys
from pathlib import Path

from PIL import Image

from lepton_workloads.builtin import load_digits
from lepton_workloads.contract.data import Split, SplitName
from lepton_workloads.split import assign_splits


def write_held_out(folder: Path, archive: Path, count: int) -> list[Path]:
    """`count` files of the test split, the classes in turn; every third one is a JPEG."""
    digits = load_digits(archive)
    labels = [int(label) for label in digits.labels]
    splits = assign_splits(digits.names, labels, Split())
    by_class: dict[int, list[int]] = {}
    for index, (label, split) in enumerate(zip(labels, splits, strict=True)):
        if split is SplitName.TEST:
            by_class.setdefault(label, []).append(index)
    paths = []
    for number in range(count):
        label = sorted(by_class)[number % len(by_class)]
        index = by_class[label][number // len(by_class)]
        path = folder / f"{label}_{index:04d}.{'jpg' if number % 3 == 2 else 'png'}"
        Image.fromarray(digits.images[index]).save(path, quality=95)
        paths.append(path)
    return paths


if __name__ == "__main__":
    for written in write_held_out(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])):
        print(written)
