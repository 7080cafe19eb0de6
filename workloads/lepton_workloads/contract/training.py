"""How a network is trained: hyper-parameters of LeptonTrainingJob's spec, by Keras' names."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import Record

Optimizer = Literal["adam", "adamw", "nadam", "rmsprop", "sgd"]
Monitor = Literal["validationLoss", "validationAccuracy", "loss", "accuracy"]
Share = Annotated[float, Field(ge=0, lt=1)]

_TAKEN_BY: dict[str, tuple[Optimizer, ...]] = {
    "beta1": ("adam", "adamw", "nadam"),
    "beta2": ("adam", "adamw", "nadam"),
    "epsilon": ("adam", "adamw", "nadam", "rmsprop"),
    "rho": ("rmsprop",),
    "momentum": ("rmsprop", "sgd"),
    "nesterov": ("sgd",),
}
"""Parameters that only some optimizers have."""


class OptimizerParameters(Record):
    """Parameters of the optimizer by their Keras names; what is left out has Keras' default."""

    beta_1: Annotated[float | None, Field(ge=0, lt=1, description="Decay of the first moment.")] = None
    beta_2: Annotated[float | None, Field(ge=0, lt=1, description="Decay of the second moment.")] = None
    epsilon: Annotated[float | None, Field(gt=0, le=1, description="Keeps divisions from zero.")] = None
    rho: Annotated[float | None, Field(ge=0, lt=1, description="Decay of the mean of squares.")] = None
    momentum: Annotated[float | None, Field(ge=0, lt=1, description="Momentum.")] = None
    nesterov: Annotated[bool | None, Field(description="Nesterov momentum.")] = None
    weight_decay: Annotated[float | None, Field(ge=0, le=1, description="Decoupled weight decay.")] = None
    clip_norm: Annotated[
        float | None, Field(gt=0, le=1e6, description="Largest norm of each gradient (clipnorm).")
    ] = None
    clip_value: Annotated[
        float | None, Field(gt=0, le=1e6, description="Largest value in a gradient (clipvalue).")
    ] = None
    global_clip_norm: Annotated[
        float | None, Field(gt=0, le=1e6, description="Largest norm of all gradients (global_clipnorm).")
    ] = None

    cel_rules = (
        (
            "(has(self.clipNorm) ? 1 : 0) + (has(self.clipValue) ? 1 : 0) + (has(self.globalClipNorm) ? 1 : 0) <= 1",
            "set at most one of clipNorm, clipValue and globalClipNorm",
        ),
    )


class LearningRateSchedule(Record):
    """How the learning rate changes, as Keras' schedule of that name; times are in epochs, not steps."""

    type: Annotated[
        Literal[
            "CosineDecay",
            "ExponentialDecay",
            "PolynomialDecay",
            "PiecewiseConstantDecay",
            "ReduceLROnPlateau",
        ],
        Field(description="Keras' name of the schedule, or of the callback for ReduceLROnPlateau."),
    ]
    decay_epochs: Annotated[
        float | None,
        Field(gt=0, le=100_000, description="Epochs of a decay; left out: all epochs, without the warm-up."),
    ] = None
    warmup_epochs: Annotated[
        float | None,
        Field(
            gt=0,
            le=100_000,
            description="CosineDecay: epochs that lead from 0 to learningRate before the decay.",
        ),
    ] = None
    alpha: Annotated[
        float | None, Field(ge=0, le=1, description="CosineDecay: share of learningRate left at the end.")
    ] = None
    decay_rate: Annotated[
        float | None,
        Field(gt=0, le=1, description="ExponentialDecay: factor after each decayEpochs; needed there."),
    ] = None
    staircase: Annotated[bool | None, Field(description="ExponentialDecay: in steps of decayEpochs.")] = None
    end_learning_rate: Annotated[
        float | None, Field(ge=0, le=100, description="PolynomialDecay: rate at the end; default 0.0001.")
    ] = None
    power: Annotated[
        float | None, Field(gt=0, le=10, description="PolynomialDecay: exponent; default 1.")
    ] = None
    boundaries: Annotated[
        list[Annotated[float, Field(gt=0, le=100_000)]] | None,
        Field(min_length=1, max_length=16, description="PiecewiseConstantDecay: epochs at which it changes."),
    ] = None
    values: Annotated[
        list[Annotated[float, Field(gt=0, le=100)]] | None,
        Field(
            min_length=2,
            max_length=17,
            description="PiecewiseConstantDecay: the rates, one more than boundaries; learningRate says nothing.",
        ),
    ] = None
    monitor: Annotated[
        Monitor | None,
        Field(description="ReduceLROnPlateau: the figure that must improve; default validationLoss."),
    ] = None
    factor: Annotated[
        float | None, Field(gt=0, lt=1, description="ReduceLROnPlateau: factor of a reduction; default 0.1.")
    ] = None
    patience: Annotated[
        int | None,
        Field(ge=0, le=100_000, description="ReduceLROnPlateau: epochs without improvement; default 10."),
    ] = None
    min_learning_rate: Annotated[
        float | None, Field(ge=0, le=100, description="ReduceLROnPlateau: smallest rate; default 0.")
    ] = None

    cel_rules = (
        (
            "self.type != 'ExponentialDecay' || has(self.decayRate) && has(self.decayEpochs)",
            "ExponentialDecay needs decayRate and decayEpochs, for example decayRate: 0.5 with decayEpochs: 10",
        ),
        (
            "(self.type == 'PiecewiseConstantDecay') == (has(self.boundaries) && has(self.values)) && "
            "has(self.boundaries) == has(self.values) && "
            "(!has(self.values) || size(self.values) == size(self.boundaries) + 1)",
            "PiecewiseConstantDecay, and only it, has boundaries and one more values, for example boundaries: [3, 6] "
            "with values: [0.001, 0.0005, 0.0001]",
        ),
        (
            "self.type == 'CosineDecay' || !has(self.warmupEpochs) && !has(self.alpha)",
            "warmupEpochs and alpha go with type: CosineDecay only",
        ),
        (
            "self.type == 'ExponentialDecay' || !has(self.decayRate) && !has(self.staircase)",
            "decayRate and staircase go with type: ExponentialDecay only",
        ),
        (
            "self.type == 'PolynomialDecay' || !has(self.endLearningRate) && !has(self.power)",
            "endLearningRate and power go with type: PolynomialDecay only",
        ),
        (
            "self.type == 'ReduceLROnPlateau' || !has(self.monitor) && !has(self.factor) && !has(self.patience) && "
            "!has(self.minLearningRate)",
            "monitor, factor, patience and minLearningRate go with type: ReduceLROnPlateau only",
        ),
    )


class EarlyStopping(Record):
    """Ends the training when a figure improves no more, as Keras' callback."""

    monitor: Annotated[Monitor, Field(description="The figure that must improve.")] = "validationLoss"
    patience: Annotated[int, Field(ge=0, le=100_000, description="Epochs without improvement.")] = 3
    min_delta: Annotated[float, Field(ge=0, le=1e6, description="What counts as an improvement.")] = 0.0
    start_from_epoch: Annotated[int, Field(ge=0, le=100_000, description="Epochs before it looks.")] = 0
    restore_best_weights: Annotated[
        bool, Field(description="The version has the weights of the best epoch, not of the last one.")
    ] = True


class Augment(Record):
    """Random changes of each training picture, drawn anew in each epoch from (seed, epoch, picture)."""

    flip: Annotated[
        Literal["none", "horizontal", "vertical", "both"],
        Field(
            description="Mirror every second picture; wrong where left and right mean something, as in digits."
        ),
    ] = "none"
    rotate_degrees: Annotated[float, Field(ge=0, le=180, description="Rotate by up to this angle.")] = 0.0
    shift: Annotated[
        float, Field(ge=0, le=0.9, description="Move by up to this share of height and width.")
    ] = 0.0
    zoom: Annotated[
        float, Field(ge=0, le=0.9, description="Scale by a factor between 1 - zoom and 1 + zoom.")
    ] = 0.0
    crop: Annotated[
        float,
        Field(
            ge=0, le=0.9, description="Cut up to this share of height and width off and enlarge what is left."
        ),
    ] = 0.0
    brightness: Annotated[
        float, Field(ge=0, le=1, description="Add up to this share of the full range to all pixels.")
    ] = 0.0
    contrast: Annotated[
        float,
        Field(ge=0, le=1, description="Scale the distance from the mean by 1 - contrast to 1 + contrast."),
    ] = 0.0


class Training(Record):
    """Hyper-parameters of the training."""

    epochs: Annotated[int, Field(ge=1, le=100_000, description="Passes over the training split.")] = 5
    batch_size: Annotated[
        int,
        Field(ge=1, le=65_536, description="Pictures per step over all workers; a multiple of the workers."),
    ] = 64
    optimizer: Annotated[Optimizer, Field(description="Optimizer by its Keras name.")] = "adam"
    optimizer_parameters: Annotated[
        OptimizerParameters | None, Field(description="Parameters of the optimizer.")
    ] = None
    learning_rate: Annotated[
        float, Field(gt=0, le=100, description="Learning rate of the optimizer, at the start of a schedule.")
    ] = 0.001
    learning_rate_schedule: Annotated[
        LearningRateSchedule | None, Field(description="How the learning rate changes; left out: not at all.")
    ] = None
    loss: Annotated[
        Literal[
            "sparse_categorical_crossentropy", "categorical_crossentropy", "categorical_focal_crossentropy"
        ],
        Field(
            description="Loss by its Keras name; the categorical ones see the classes one-hot, so that labels can "
            "be smoothed."
        ),
    ] = "sparse_categorical_crossentropy"
    label_smoothing: Annotated[
        float, Field(ge=0, lt=1, description="Smoothing of the one-hot labels; not with the sparse loss.")
    ] = 0.0
    early_stopping: Annotated[
        EarlyStopping | None, Field(description="When to stop before all epochs are done; left out: never.")
    ] = None
    augment: Annotated[
        Augment | None, Field(description="Random changes of the training pictures; left out: none.")
    ] = None
    precision: Annotated[
        Literal["float32", "mixed_bfloat16"],
        Field(description="Keras' dtype policy; mixed_bfloat16 computes in 16 bits and keeps weights in 32."),
    ] = "float32"
    jit_compile: Annotated[bool, Field(description="Compile the training step with XLA.")] = False
    seed: Annotated[
        int, Field(ge=0, le=2**31 - 1, description="Seed of weights, order, dropout and augmentation.")
    ] = 7

    cel_rules = (
        (
            "self.labelSmoothing == 0.0 || self.loss != 'sparse_categorical_crossentropy'",
            "labelSmoothing goes with loss: categorical_crossentropy or categorical_focal_crossentropy",
        ),
        *(
            (
                f"!has(self.optimizerParameters) || !has(self.optimizerParameters.{name}) || "
                f"self.optimizer in [{', '.join(map(repr, takers))}]",
                f"optimizerParameters.{name} goes with optimizer: {' or '.join(takers)} only",
            )
            for name, takers in _TAKEN_BY.items()
        ),
    )
