"""Builds `data/tiny.tflite`, the network that the serving tests answer with; needs TensorFlow.

It is checked in because it is small (a few KB), so that the tests of the server need no TensorFlow and start
at once. Run it again only when the tests need another network: `python tests/unit/serving/make_model.py`.
"""

from pathlib import Path

SEED = 7
HEIGHT, WIDTH, CHANNELS, CLASSES = 6, 8, 3, 4
"""Height and width differ, so that a server that swaps them is found out."""


def main() -> None:
    """Writes the file; weights are drawn wide enough that the probabilities of the classes differ well."""
    import keras

    keras.utils.set_random_seed(SEED)
    wide = keras.initializers.RandomNormal(stddev=0.7)
    model = keras.Sequential(
        [
            keras.Input((HEIGHT, WIDTH, CHANNELS), name="pixels"),
            keras.layers.Conv2D(4, 3, padding="same", activation="relu", kernel_initializer=wide),
            keras.layers.MaxPooling2D(2),
            keras.layers.Flatten(),
            keras.layers.Dense(CLASSES, activation="softmax", kernel_initializer=wide, name="probabilities"),
        ]
    )
    model.export(Path(__file__).parent / "data" / "tiny.tflite", format="litert", verbose=False)


if __name__ == "__main__":
    main()
