"""What a model's spec makes of its servers' pods and of its Service."""

from typing import Any

import pytest

from lepton_operator.api.model import ModelArtifact
from lepton_operator.contain import difference
from lepton_operator.context import Context
from lepton_operator.desired.serving import TEMPLATE_ANNOTATION, service, service_url
from lepton_workloads.contract.tasks import FetchTask, ServeTask
from tests.unit.builders import CONTEXT, DIGEST
from tests.unit.desired.test_manifests import (
    OWNER,
    PATH_ARTIFACT,
    URL_ARTIFACT,
    Manifest,
    model_spec,
    pod_of,
    serving,
    task,
)

WITH_TENSORFLOW = Context("trainer:1", "server:1", tensorflow_server_image="tensorflow:1")
JOB_ARTIFACT = PATH_ARTIFACT.model_copy(update={"training_job": "cnn"})
TLS = {"tlsSecret": {"name": "certificate"}}
TOKENS = {"tokenSecret": {"name": "visitors"}}
ALARM = {"name": "seven", "labels": ["7"], "sink": {"url": "http://alarms.example/lepton"}}


def server(**spec: Any) -> Manifest:
    """The server's container."""
    (one,) = pod_of(serving(context=WITH_TENSORFLOW, **spec))["containers"]
    return dict(one)


def ports(manifest: Manifest) -> dict[str, Any]:
    """Ports of a Service: name -> (port, target)."""
    return {row["name"]: (row["port"], row["targetPort"]) for row in manifest["spec"]["ports"]}


def volumes(artifact: ModelArtifact = PATH_ARTIFACT, **spec: Any) -> dict[str, Manifest]:
    """Volumes of the pod by name."""
    return {row["name"]: row for row in pod_of(serving(artifact, **spec))["volumes"]}


def mounts(container: Manifest) -> dict[str, Manifest]:
    """Mounts of a container by path."""
    return {row["mountPath"]: row for row in container["volumeMounts"]}


# -- tasks -------------------------------------------------------------------------------------------


def test_the_server_is_told_the_spec() -> None:
    told = task(
        server(
            precision="int8",
            grpc=True,
            timeoutSeconds=3,
            maxRequestMegabytes=2,
            security=TOKENS | TLS,
            alarms=[ALARM],
            drift={"window": 500},
            requestLog={"claimName": "kept", "sample": 0.1},
        ),
        ServeTask,
    )
    assert (told.name, told.namespace, told.owner_uid) == (OWNER.name, "team", OWNER.uid)
    assert (told.engine, told.precision, told.grpc) == ("litert", "int8", True)
    assert (told.timeout_seconds, told.max_request_bytes) == (3, 2 * 1024 * 1024)
    assert (told.tokens, told.tls) == (True, True)
    assert [alarm.sink.url for alarm in told.alarms] == ["http://alarms.example/lepton"]
    assert (told.drift.window, told.drift.threshold) == (500, 0.2)
    assert told.request_log.sample == 0.1


def test_nothing_is_on_that_nobody_asked_for() -> None:
    told = task(server(), ServeTask)
    assert (told.grpc, told.tokens, told.tls) == (False, False, False)
    assert (told.alarms, told.drift, told.request_log) == ([], None, None)
    assert set(volumes()) == {"model", "source", "scratch"}


def test_the_image_follows_the_engine_and_fetching_needs_no_tensorflow() -> None:
    pod = pod_of(serving(context=WITH_TENSORFLOW, engine="tensorflow"))
    assert pod["containers"][0]["image"] == "tensorflow:1"
    assert pod["initContainers"][0]["image"] == CONTEXT.server_image
    assert task(pod["initContainers"][0], FetchTask).engine == "tensorflow"
    assert task(pod["containers"][0], ServeTask).engine == "tensorflow"
    assert server()["image"] == CONTEXT.server_image


@pytest.mark.parametrize(
    ("spec", "amounts"),
    [
        ({}, {"cpu": "100m", "memory": "128Mi"}),
        ({"engine": "tensorflow"}, {"cpu": "100m", "memory": "1Gi"}),
        ({"engine": "tensorflow", "resources": {"requests": {"cpu": "1"}}}, {"cpu": "1"}),
    ],
)
def test_tensorflow_costs_memory(spec: Manifest, amounts: Manifest) -> None:
    assert server(**spec)["resources"]["requests"] == amounts


@pytest.mark.parametrize(
    ("artifact", "spec", "drop"),
    [
        (URL_ARTIFACT, {"precision": "int8", "maxAccuracyDrop": 0.02}, 0.02),
        (URL_ARTIFACT, {"maxAccuracyDrop": 0.02}, 1.0),
        (JOB_ARTIFACT, {"precision": "int8", "maxAccuracyDrop": 0.02}, 1.0),
    ],
)
def test_the_gate_is_judged_once(artifact: ModelArtifact, spec: Manifest, drop: float) -> None:
    """Of a training job's version by the operator: another limit must start no pod anew."""
    (fetch,) = pod_of(serving(artifact, **spec))["initContainers"]
    assert task(fetch, FetchTask).max_accuracy_drop == drop


@pytest.mark.parametrize("seconds", [1, 10, 600])
def test_a_pod_that_ends_waits_as_long_as_a_request_may_take(seconds: int) -> None:
    pod = pod_of(serving(timeoutSeconds=seconds))
    drain = task(pod["containers"][0], ServeTask).drain_seconds
    assert drain >= max(seconds, 10)
    sleep = pod["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > sleep + drain


# -- ports -------------------------------------------------------------------------------------------


def test_ports_and_probes_without_tls() -> None:
    one = server()
    assert {row["name"]: row["containerPort"] for row in one["ports"]} == {"http": 8080, "monitoring": 9090}
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert one[probe]["httpGet"]["scheme"] == "HTTP"
    wanted = service(OWNER, model_spec())
    assert ports(wanted) == {"http": (80, "http")}
    assert service_url(OWNER, model_spec()) == f"http://{OWNER.name}.team.svc"


def test_ports_and_probes_with_tls() -> None:
    one, spec = server(security=TLS), model_spec(security=TLS)
    for probe in ("readinessProbe", "livenessProbe", "startupProbe"):
        assert one[probe]["httpGet"] | {"path": ""} == {"path": "", "port": "http", "scheme": "HTTPS"}
    assert ports(service(OWNER, spec)) == {"https": (443, "http")}
    assert service_url(OWNER, spec) == f"https://{OWNER.name}.team.svc"


def test_grpc_has_a_port_of_its_own() -> None:
    assert {row["name"]: row["containerPort"] for row in server(grpc=True)["ports"]}["grpc"] == 8081
    plain, secret = (service(OWNER, model_spec(grpc=True, **more)) for more in ({}, {"security": TLS}))
    assert ports(plain) == {"http": (80, "http"), "grpc": (9000, "grpc")}
    assert ports(secret) == {"https": (443, "http"), "grpc": (9000, "grpc")}
    assert plain["spec"]["ports"][1]["appProtocol"] == "kubernetes.io/h2c"


def test_metrics_are_scraped_where_they_are_plain_http() -> None:
    annotations = serving(security=TLS)["spec"]["template"]["metadata"]["annotations"]
    assert annotations["prometheus.io/port"] == "9090"


@pytest.mark.parametrize("more", [{"grpc": True}, {"security": TLS}])
def test_a_port_that_is_wanted_no_more_makes_a_write(more: Manifest) -> None:
    """A row more in the live list is no difference by itself: it may be somebody else's."""
    one, other = service(OWNER, model_spec()), service(OWNER, model_spec(**more))
    assert difference(one, other) is not None
    assert difference(other, one) is not None
    assert difference(one, one) is None


def test_what_the_service_does_not_show_does_not_change_it() -> None:
    one, other = service(OWNER, model_spec()), service(OWNER, model_spec(replicas=3, timeoutSeconds=4))
    assert one == other
    assert one["metadata"]["annotations"][TEMPLATE_ANNOTATION]


# -- volumes -----------------------------------------------------------------------------------------


def test_secrets_are_mounted_for_the_group_and_read_only() -> None:
    security = TOKENS | TLS
    held = volumes(security=security)
    assert held["tokens"]["secret"] == {"secretName": "visitors", "defaultMode": 0o440}
    assert held["tls"]["secret"]["secretName"] == "certificate"
    assert [row["key"] for row in held["tls"]["secret"]["items"]] == ["tls.crt", "tls.key"]
    pod = pod_of(serving(security=security))
    places = mounts(pod["containers"][0])
    assert places["/lepton/tokens"]["readOnly"] is places["/lepton/tls"]["readOnly"] is True
    assert not {"/lepton/tokens", "/lepton/tls"} & set(mounts(pod["initContainers"][0]))


def test_requests_are_kept_in_a_folder_of_their_claim() -> None:
    held = volumes(requestLog={"claimName": "kept", "path": "a/b"})
    assert held["requests"]["persistentVolumeClaim"] == {"claimName": "kept"}
    pod = pod_of(serving(requestLog={"claimName": "kept", "path": "a/b"}))
    assert mounts(pod["containers"][0])["/lepton/requests"] == {
        "name": "requests",
        "mountPath": "/lepton/requests",
        "subPath": "a/b",
    }
    assert "/lepton/requests" not in mounts(pod["initContainers"][0])


def test_requests_kept_at_the_root_of_their_claim() -> None:
    (one,) = pod_of(serving(requestLog={"claimName": "kept", "path": ""}))["containers"]
    assert "subPath" not in mounts(one)["/lepton/requests"]


@pytest.mark.parametrize("added", [False, True])
def test_a_claim_is_one_volume_however_often_it_is_used(added: bool) -> None:
    """As source of the version, for requests, and by podTemplate."""
    again = {"name": "mine", "mountPath": "/mine", "persistentVolumeClaim": {"claimName": "lepton-store"}}
    template = {"podTemplate": {"volumes": [again]}} if added else {}
    manifest = serving(requestLog={"claimName": "lepton-store"}, **template)
    pod = pod_of(manifest)
    claims = [row for row in pod["volumes"] if "persistentVolumeClaim" in row]
    assert claims == [{"name": "source", "persistentVolumeClaim": {"claimName": "lepton-store"}}]
    assert mounts(pod["initContainers"][0])["/lepton/source"]["readOnly"] is True
    kept = mounts(pod["containers"][0])["/lepton/requests"]
    assert (kept["name"], kept["subPath"], kept.get("readOnly")) == ("source", "requests", None)


def test_the_largest_task_fits_into_a_variable() -> None:
    """Linux takes 128 KiB for one variable, its name included."""
    url = "http://a.example/" + '"' * 1007
    labels = ["写" * 250] * 4
    alarms = [ALARM | {"name": f"n{n}" + "x" * 60, "labels": labels, "sink": {"url": url}} for n in range(16)]
    log = {"claimName": "k" * 253, "path": "写" * 1024}
    one = server(alarms=alarms, requestLog=log, drift={}, security=TOKENS | TLS)
    (text,) = (row["value"] for row in one["env"] if row["name"] == "LEPTON_TASK")
    assert len(text.encode()) + 32 < 128 * 1024
    assert task(one, ServeTask).version == DIGEST[:12]
