"""The server: answers predictions for the one model version in `MODEL_DIR`.

TensorFlow is loaded only where it is the engine.

The rooms, from the inside out:

- `engines`: what runs the network, and the thread and bounded queue in front of it.
- `version`, `model`: the version on disk; from pictures to answers, and its life: loading, ready, draining.
- `bodies`: numbers and pictures out of the bodies of requests.
- `rest`, `rpc`: the protocols, over HTTP and gRPC; `page`: the page for people.
- `observers`, with `alarms`, `drift`, `request_log`: who looks at predictions.
- `http`, `router`: requests, answers, errors; which path is whose. `protocol`, `security`: limits; tokens, TLS.
- `metrics`, `access_log`, `traces`: what is told about requests.
- `app`: the ASGI application composed of all that; `server`: its life; `runner`: the process.
"""
