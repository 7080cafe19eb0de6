"""A prepared dataset -> `models/<digest>`, by a gang of one or more workers.

Modules, in the order in which they work: `gate` (are all peers there?),
`data` (prepared pictures and their order), `network` (the Keras model), `loop` (the training), `evaluate`,
`export` (three formats, checked), `artifact` (written whole or not at all). `run` ties them together; only
`network`, `loop`, `evaluate` and `export` import TensorFlow, after the gate.
"""
