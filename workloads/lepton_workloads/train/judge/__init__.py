"""How good a trained network is: figures from probabilities and true classes, without TensorFlow.

- `figures`: all figures of one split, and the one that the gate asks for.
- `calibration`: does a network that is 80 % sure hit four times in five?
"""
