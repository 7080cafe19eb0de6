"""Converts a Keras file for ONNX Runtime: `to_onnx.py MODEL.keras MODEL.onnx`."""

import sys

import keras

model = keras.saving.load_model(sys.argv[1])
model.export(sys.argv[2], format="onnx", verbose=False)
