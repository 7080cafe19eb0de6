"""`/healthz`: must the process be restarted? `/readyz`: should it get requests now?"""

from lepton_workloads.serve.http import HttpError, Request, Response, json_response
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.router import Route


def routes(model: Model) -> list[Route]:
    """The routes of the kubelet's probes."""

    async def healthz(_: Request) -> Response:
        if not model.alive:
            raise HttpError(503, "the engine's thread has ended")
        return json_response({"status": "alive"})

    async def readyz(_: Request) -> Response:
        if model.draining:
            raise HttpError(503, "the server is shutting down")
        if not model.loaded or not model.alive:
            raise HttpError(503, "the model is not loaded")
        return json_response({"status": "ready"})

    return [
        Route("GET", "/healthz", "200 while the process works", healthz, open=True),
        Route(
            "GET",
            "/readyz",
            "200 once the model answers, 503 before and while shutting down",
            readyz,
            open=True,
        ),
    ]
