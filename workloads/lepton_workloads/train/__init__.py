"""A prepared dataset -> `models/<digest>`, by a gang of one or more workers.

Modules, in the order in which they work: `gate` (are all peers there?), `data` (prepared pictures and their order),
`checkpoint` (where to go on from), `network` (the Keras model), `step` (what all workers compute together), `loop` (the
epochs), `evaluate`, `export` (three formats, checked), `artifact` (written whole or not at all). `run` ties them
together; it imports what needs TensorFlow after the gate.
"""
