"""gRPC's health checking protocol: what `/readyz` says, for load balancers and probes that speak gRPC.

Without Watch, which clients take for "does not tell, so always healthy".
"""

from lepton_workloads.serve.caller import Caller
from lepton_workloads.serve.http import HttpError
from lepton_workloads.serve.model import Model
from lepton_workloads.serve.rpc.calls import Method
from lepton_workloads.serve.rpc.protos.health_pb2 import HealthCheckRequest, HealthCheckResponse

SERVICE = "grpc.health.v1.Health"


def methods(model: Model, services: set[str]) -> list[Method]:
    """The methods of the service; all other `services` are healthy together, as the empty name is."""

    async def check(request: HealthCheckRequest, _: Caller) -> HealthCheckResponse:
        if request.service not in services | {"", SERVICE}:
            raise HttpError(404, f"service: there is no {request.service[:100]!r} here")
        if model.loaded and model.alive and not model.draining:
            return HealthCheckResponse(status=HealthCheckResponse.SERVING)
        return HealthCheckResponse(status=HealthCheckResponse.NOT_SERVING)

    return [Method(SERVICE, "Check", HealthCheckRequest, check, open=True)]
