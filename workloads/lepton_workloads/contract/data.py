"""Pictures, splits, and the prepared dataset as it lies on disk.

A prepared dataset is a folder `datasets/<key>` that appears by one rename and never changes:

- `dataset.json`: a `DatasetManifest`.
- `<split>.images`: uint8 records of `height * width * channels` bytes, C order, one after the other.
- `<split>.labels`: little-endian int32, the same order.
- `<split>.files`: one JSON string a line, the source file of each record, the same order.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import Record

MANIFEST_FILE = "dataset.json"


class SplitName(StrEnum):
    """The three parts of a dataset; `test` is never seen in training."""

    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


class Picture(Record):
    """The size and form that every picture is brought to."""

    height: Annotated[int, Field(ge=1, le=4096, description="Height in pixels after resizing.")] = 32
    width: Annotated[int, Field(ge=1, le=4096, description="Width in pixels after resizing.")] = 32
    channels: Annotated[Literal[1, 3], Field(description="1 for grey pictures, 3 for colour (RGB).")] = 3
    fit: Annotated[
        Literal["pad", "crop", "stretch"],
        Field(
            description="How a picture of another aspect ratio is fitted: `pad` keeps all of it and fills with black, "
            "`crop` fills the frame and cuts the edges off, `stretch` changes the aspect ratio."
        ),
    ] = "pad"


class Normalization(Record):
    """value = pixel * scale + offset, as in Keras' Rescaling layer; applied once, by the reader of stored uint8."""

    scale: Annotated[float, Field(gt=0, le=1000, description="Factor for each pixel value (0 to 255).")] = (
        1 / 255
    )
    offset: Annotated[float, Field(ge=-1000, le=1000, description="Added after scaling.")] = 0.0


class Split(Record):
    """Shares of the three splits; drawn per class with a seed, so that equal input gives equal splits."""

    train: Annotated[float, Field(gt=0, le=1, description="Share used for training.")] = 0.8
    validation: Annotated[float, Field(ge=0, lt=1, description="Share used to watch the training.")] = 0.1
    test: Annotated[float, Field(gt=0, lt=1, description="Share held out to judge the finished network.")] = (
        0.1
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of the draw.")] = 7

    cel_rules = (
        (
            "self.train + self.validation + self.test > 0.999 && self.train + self.validation + self.test < 1.001",
            "train, validation and test must add up to 1, for example 0.8, 0.1 and 0.1",
        ),
    )


class SplitInfo(Record):
    """What one split holds."""

    samples: int
    per_class: list[int] = Field(description="Samples of each class, in the order of the labels.")


class InvalidFile(Record):
    """A source file that was set aside."""

    path: str
    error: str


class DatasetManifest(Record):
    """`dataset.json`: everything a reader needs, written last before the rename."""

    version: Literal[1] = 1
    key: str = Field(description="Content address: sha256 (hex) of what determines the bytes.")
    labels: list[str]
    picture: Picture
    normalization: Normalization
    decoder: str = Field(description='Decoder name and version, for example "pillow 13.0.0".')
    splits: dict[SplitName, SplitInfo]
    invalid_files: int = Field(0, description="Source files that were set aside.")
    invalid_examples: list[InvalidFile] = Field(default_factory=list, description="At most 20 of them.")
    checksums: dict[str, str] = Field(description="sha256 of each data file, by file name.")
