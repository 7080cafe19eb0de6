"""The server: answers predictions for the one model version in `MODEL_DIR`. No TensorFlow in here.

The rooms, from the inside out:

- `engine`: what runs the network (LiteRT), and the thread and bounded queue in front of it.
- `model`: the version on disk, and its life: loading, ready, draining.
- `http`, `router`: requests, answers, errors, limits; which path is whose.
- `tensorflow_serving`, `classify`, `health`: the protocols; `tensors` reads numbers out of JSON.
- `openapi`: what all routes take and give, as a document.
- `security`: bearer tokens and the TLS certificate; `protocol`: what one connection may send, and how slowly.
- `metrics`, `access_log`: what is told about requests.
- `app`: the ASGI application composed of all that; `runner`: process, sockets, signals.
"""
