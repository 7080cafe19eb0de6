"""The way into a cluster: a kubeconfig, or the account of the pod that the operator runs in."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from kubernetes.aio import client
from kubernetes.aio import config as untyped_config

from lepton_operator.cluster import Cluster

config: Any = untyped_config

ACCOUNT_FOLDER = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_FILE = ACCOUNT_FOLDER / "token"


class LoginFailed(Exception):
    """No credentials; the text says what was tried."""


async def connect(kubeconfig: str | None, context: str | None) -> Cluster:
    """The cluster of an explicit kubeconfig or context, else of the pod's account, else of KUBECONFIG.

    Raises:
        LoginFailed: nothing usable was found.
    """
    configuration = client.Configuration()
    try:
        if kubeconfig is None and context is None and _has_service_account():
            config.load_incluster_config(client_configuration=configuration)
            _bypass_proxy(configuration)
            return Cluster(configuration, in_cluster=True)

        async def load() -> None:
            await config.load_kube_config(
                config_file=kubeconfig,
                context=context,
                client_configuration=configuration,
                persist_config=False,
            )

        await load()
    except (untyped_config.ConfigException, OSError) as error:
        raise LoginFailed(f"No way into a cluster: {error}") from error
    _bypass_proxy(configuration)
    return Cluster(configuration, in_cluster=False, relogin=load)


def pod_namespace() -> str | None:
    """Namespace of the pod that this process runs in; None outside a cluster."""
    file = ACCOUNT_FOLDER / "namespace"
    return file.read_text().strip() if file.exists() else None


def _has_service_account() -> bool:
    return _service_address() is not None and TOKEN_FILE.exists()


def _service_address() -> str | None:
    return os.environ.get("KUBERNETES_SERVICE_HOST")


def _bypass_proxy(configuration: client.Configuration) -> None:
    """HTTPS_PROXY doesn't lead to this machine or into this cluster's network."""
    host = urlsplit(configuration.host).hostname or ""
    if host in ("localhost", "::1", _service_address()) or host.startswith("127."):
        configuration.client_session_kwargs = {"trust_env": False}
