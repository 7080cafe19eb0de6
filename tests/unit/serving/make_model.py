"""Builds `data/tiny.tflite`, the network that the serving tests answer with; needs TensorFlow.

`data/explained.tflite` is the same network with further outputs, of which two have the answer's shape. Both are checked
in because they are small (a few KB), so that the tests of the server need no TensorFlow and start at once. Run it again
only when the tests need another network: `python tests/unit/serving/make_model.py`.
"""

from pathlib import Path

SEED = 7
HEIGHT, WIDTH, CHANNELS, CLASSES = 6, 8, 3, 4
"""Height and width differ, so that a server that swaps them is found out."""


def main() -> None:
    """Writes the files; weights are drawn wide enough that the probabilities of the classes differ well."""
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
    folder = Path(__file__).parent / "data"
    model.export(folder / "tiny.tflite", format="litert", verbose=False)
    answer, features = model.outputs[0], model.layers[0].output
    outputs = {"a_copy": answer * 2, "features": features, "probabilities": answer, "z_copy": answer + 1}
    keras.Model(model.inputs, outputs).export(folder / "explained.tflite", format="litert", verbose=False)


if __name__ == "__main__":
    main()
