"""Who may ask a model, and whether what is said stays secret: Secrets that are mounted into the servers' pods.

The operator never reads a Secret: the kubelet brings them to the pods, and the servers see when they change.
"""

from typing import Annotated

from pydantic import Field

from lepton_operator.api.common import Name
from lepton_workloads.contract.base import Record


class SecretReference(Record):
    """A Secret of the same namespace."""

    name: Annotated[Name, Field(description="Name of a Secret in the same namespace.")]


class Security(Record):
    """Tokens and certificate of the servers."""

    token_secret: Annotated[
        SecretReference | None,
        Field(
            description="Secret whose every value is a bearer token that opens the model; left out: all may ask "
            "who reach it."
        ),
    ] = None
    tls_secret: Annotated[
        SecretReference | None,
        Field(
            description="Secret of type kubernetes.io/tls for HTTP and gRPC; the Service then has port 443 instead "
            "of 80. Metrics and report, at port 9090 of the pods, stay plain HTTP."
        ),
    ] = None

    cel_rules = (
        (
            "!has(self.tokenSecret) || !has(self.tlsSecret) || self.tokenSecret.name != self.tlsSecret.name",
            "security.tokenSecret and security.tlsSecret must be two Secrets, for every value of tokenSecret is a "
            "token: keep the tokens in a Secret of their own",
        ),
    )
