"""The network and how it is trained: the parts of LeptonTrainingJob's spec that the trainer reads."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import Record

LayerSize = Annotated[int, Field(ge=1, le=4096)]


class Cnn(Record):
    """A convolutional image classifier: (convolution, max-pool) blocks, flatten, dense layers, softmax."""

    type: Annotated[Literal["cnn"], Field(description="The kind of network.")] = "cnn"
    convolutions: Annotated[
        list[LayerSize],
        Field(min_length=1, max_length=16, description="Filters of each convolution block, first to last."),
    ] = [64, 128]
    kernel_size: Annotated[
        int, Field(ge=1, le=15, description="Height and width of each convolution's kernel.")
    ] = 3
    pool_size: Annotated[
        int, Field(ge=1, le=8, description="Height and width of each max-pooling window; 1 means no pooling.")
    ] = 2
    padding: Annotated[
        Literal["same", "valid"], Field(description="Padding of the convolutions, as in Keras.")
    ] = "same"
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


class Training(Record):
    """Hyper-parameters of the training."""

    epochs: Annotated[int, Field(ge=1, le=100_000, description="Passes over the training split.")] = 5
    batch_size: Annotated[
        int,
        Field(ge=1, le=65_536, description="Pictures per step over all workers; a multiple of the workers."),
    ] = 64
    optimizer: Annotated[
        Literal["adam", "adamw", "nadam", "rmsprop", "sgd"],
        Field(description="Optimizer by its Keras name."),
    ] = "adam"
    learning_rate: Annotated[float, Field(gt=0, le=100, description="Learning rate of the optimizer.")] = (
        0.001
    )
    seed: Annotated[int, Field(ge=0, le=2**31 - 1, description="Seed of weights, order and dropout.")] = 7
