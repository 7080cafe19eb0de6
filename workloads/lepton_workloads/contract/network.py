"""The network: the part of LeptonTrainingJob's spec that says what is trained."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from lepton_workloads.contract.base import Record

LayerSize = Annotated[int, Field(ge=1, le=4096)]
KernelSize = Annotated[int, Field(ge=1, le=15)]
PoolSize = Annotated[int, Field(ge=1, le=8)]


class CnnSizes(Record):
    """Blocks of (convolution, [batch normalization], activation, max-pool), flatten, dense layers, softmax."""

    convolutions: Annotated[
        list[LayerSize],
        Field(min_length=1, max_length=16, description="Filters of each convolution block, first to last."),
    ] = [64, 128]
    kernel_size: Annotated[
        int, Field(ge=1, le=15, description="Height and width of each convolution's kernel.")
    ] = 3
    kernel_sizes: Annotated[
        list[KernelSize] | None,
        Field(
            min_length=1, max_length=16, description="Instead of kernelSize: one for each convolution block."
        ),
    ] = None
    pool_size: Annotated[
        int, Field(ge=1, le=8, description="Height and width of each max-pooling window; 1 means no pooling.")
    ] = 2
    pool_sizes: Annotated[
        list[PoolSize] | None,
        Field(
            min_length=1, max_length=16, description="Instead of poolSize: one for each convolution block."
        ),
    ] = None
    padding: Annotated[
        Literal["same", "valid"], Field(description="Padding of the convolutions, as in Keras.")
    ] = "same"
    batch_normalization: Annotated[
        bool,
        Field(description="Normalise over the global batch after each convolution, before its activation."),
    ] = False
    dense: Annotated[
        list[LayerSize],
        Field(max_length=16, description="Units of each dense layer before the softmax; may be empty."),
    ] = [128]
    activation: Annotated[
        Literal["relu", "elu", "gelu", "silu", "tanh"],
        Field(description="Activation of convolutions and dense layers, by its Keras name."),
    ] = "relu"
    dropout: Annotated[
        float, Field(ge=0, lt=1, description="Share of units dropped after each dense layer while training.")
    ] = 0.0
    convolution_dropout: Annotated[
        float, Field(ge=0, lt=1, description="Share of values dropped after each block while training.")
    ] = 0.0

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "!has(self.kernelSizes) || size(self.kernelSizes) == size(self.convolutions)",
            "kernelSizes needs one size for each of convolutions, for example convolutions: [64, 128] with "
            "kernelSizes: [5, 3]",
        ),
        (
            "!has(self.poolSizes) || size(self.poolSizes) == size(self.convolutions)",
            "poolSizes needs one size for each of convolutions, for example convolutions: [64, 128] with "
            "poolSizes: [1, 2]",
        ),
    )

    @property
    def blocks(self) -> list[tuple[int, int, int]]:
        """(filters, kernel size, pool size) of each convolution block, first to last."""
        count = len(self.convolutions)
        kernels = self.kernel_sizes or [self.kernel_size] * count
        pools = self.pool_sizes or [self.pool_size] * count
        return list(zip(self.convolutions, kernels, pools, strict=True))


class Cnn(CnnSizes):
    """A convolutional image classifier, as the trainer is told."""

    type: Literal["cnn"] = "cnn"


Argument = Annotated[str, Field(max_length=4096)]


class OwnCode(Record):
    """A program of the user's that trains; docs/own-code.md says what it finds and what it leaves."""

    image: Annotated[str, Field(min_length=1, max_length=512, description="Image with the program.")]
    command: Annotated[
        list[Argument], Field(min_length=1, max_length=64, description="The program and its first arguments.")
    ]
    args: Annotated[list[Argument] | None, Field(max_length=64, description="More arguments.")] = None

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = (
        (
            "!self.image.matches('[ \\\\t\\\\n]')",
            "custom.image must hold no spaces: write for example example.com/team/trainer:1.0",
        ),
    )


class Network(CnnSizes):
    """What is trained: Lepton's CNN, or a program of your own."""

    type: Annotated[
        Literal["cnn", "custom"],
        Field(description="`cnn`: the network described here; `custom`: the program in `custom`."),
    ] = "cnn"
    custom: Annotated[
        OwnCode | None, Field(description="With type: custom, the program; the sizes say nothing then.")
    ] = None

    cel_rules: ClassVar[tuple[tuple[str, str], ...]] = (
        *CnnSizes.cel_rules,
        (
            "has(self.custom) == (self.type == 'custom')",
            "network.type: custom goes with network.custom (image and command), and only with it",
        ),
    )

    @property
    def cnn(self) -> Cnn:
        """The sizes, for the trainer."""
        return Cnn(**{name: getattr(self, name) for name in CnnSizes.model_fields})
