"""Converts a Keras file for ONNX Runtime: `to_onnx.py MODEL.keras MODEL.onnx`."""

import sys

import keras

model = keras.saving.load_model(sys.argv[1])
model(keras.ops.zeros((1, *model.input_shape[1:])))  # without a call Keras doesn't know its inputs
model.export(sys.argv[2], format="onnx", verbose=False)
