"""A prepared dataset -> `models/<digest>`, by a gang of one or more workers.

Modules, in the order in which they work: `gate` (are all peers there?), `data` (prepared pictures and their order),
`checkpoint` (where to go on from), `network` (the Keras model), `step` (what all workers compute together), `loop` (the
epochs). Then `version` ties together what a version is made of: `evaluate` and `judge` (how good it is), `export`
(three formats, checked), `quantize` (8 bits), `explaining`, `reference`, `tensorboard` and `report_page` (for people);
`artifact` writes it whole or not at all. `run` ties all together; it imports what needs TensorFlow after the gate.
"""
