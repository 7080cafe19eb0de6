"""Children: names, labels, Pod Security, tasks, mounts."""

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lepton_operator.api.dataset import DatasetSpec
from lepton_operator.api.kind import MAX_NAME
from lepton_operator.api.model import ModelArtifact, ModelSpec
from lepton_operator.api.training_job import TrainingJobSpec
from lepton_operator.context import Context
from lepton_operator.decide.attempt import MAX_DISRUPTIONS
from lepton_operator.desired.gang import Pinned, attempt_job, gang_service
from lepton_operator.desired.owner import Owner
from lepton_operator.desired.prepare_job import content_hash, job_name, prepare_job
from lepton_operator.desired.quantity import canonical
from lepton_operator.desired.serving import TEMPLATE_ANNOTATION, deployment, disruption_budget, service
from lepton_operator.desired.store_claim import store_claim
from lepton_workloads.contract.base import Record
from lepton_workloads.contract.tasks import TASK_ENV, FetchTask, PrepareTask, ServeTask, TrainTask
from tests.unit.builders import CONTEXT, DIGEST, KEY

OWNER = Owner("LeptonModel", "team", "n" * MAX_NAME, "0f8b6c1e-1111-2222-3333-444455556666")
MOST_ATTEMPTS = MAX_DISRUPTIONS + 101
PVC = {"source": {"pvc": {"claimName": "photos", "path": "2026"}}}
OWN_CODE = {
    "type": "custom",
    "custom": {"image": "team/trainer:7", "command": ["python", "/code/train.py"], "args": ["--deep", "$$"]},
}
PATH_ARTIFACT = ModelArtifact(digest=DIGEST, claim_name="lepton-store", path=f"models/{DIGEST}")
URL_ARTIFACT = ModelArtifact(digest=DIGEST, uri="https://example.org/m.tar.gz")

Manifest = dict[str, Any]


def dataset_spec(**spec: Any) -> DatasetSpec:
    return DatasetSpec.model_validate({"source": {"builtin": "digits"}} | spec)


def training_spec(**spec: Any) -> TrainingJobSpec:
    return TrainingJobSpec.model_validate({"dataset": {"name": "digits"}} | spec)


def model_spec(**spec: Any) -> ModelSpec:
    return ModelSpec.model_validate({"source": {"trainingJob": {"name": "cnn"}}} | spec)


def training(**spec: Any) -> Manifest:
    return attempt_job(OWNER, training_spec(**spec), Pinned(KEY, "lepton-store"), MOST_ATTEMPTS, CONTEXT)


def serving(artifact: ModelArtifact = PATH_ARTIFACT, context: Context = CONTEXT, **spec: Any) -> Manifest:
    return deployment(OWNER, model_spec(**spec), artifact, DIGEST[:12], context)


WORKLOADS = {
    "prepare": prepare_job(OWNER, dataset_spec(parallelism=64), CONTEXT),
    "prepare a claim": prepare_job(OWNER, dataset_spec(**PVC), CONTEXT),
    "train": training(workers=64, training={"batchSize": 64}),
    "train on data of another claim": attempt_job(OWNER, training_spec(), Pinned(KEY, "other"), 1, CONTEXT),
    "own code": training(workers=2, network=OWN_CODE),
    "serve from a claim": serving(),
    "serve from a URL": serving(URL_ARTIFACT),
}
CHILDREN = [
    *WORKLOADS.values(),
    gang_service(OWNER),
    service(OWNER, model_spec()),
    disruption_budget(OWNER),
    store_claim("lepton-store", CONTEXT),
]


def pod_of(manifest: Manifest) -> Manifest:
    spec: Manifest = manifest["spec"]["template"]["spec"]
    return spec


def containers(pod: Manifest) -> list[Manifest]:
    return [*pod.get("initContainers", ()), *pod["containers"]]


def leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for item in value.values():
            yield from leaves(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from leaves(item)
    else:
        yield value


def task(container: Manifest, kind: type[Record]) -> Any:
    text = next(row["value"] for row in container["env"] if row["name"] == TASK_ENV)
    return kind.model_validate_json(text)


@pytest.mark.parametrize("pod", [pod_of(manifest) for manifest in WORKLOADS.values()], ids=list(WORKLOADS))
def test_pods_meet_the_restricted_standard(pod: Manifest) -> None:
    """Every control of https://kubernetes.io/docs/concepts/security/pod-security-standards/."""
    assert not {"hostNetwork", "hostPID", "hostIPC", "hostUsers"} & set(pod)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    allowed = {
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    }
    for volume in pod["volumes"]:
        assert set(volume) - {"name"} <= allowed
    for one in containers(pod):
        context = one["securityContext"]
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert context["readOnlyRootFilesystem"] is True
        assert "privileged" not in context
        assert all("hostPort" not in port for port in one.get("ports", ()))


@pytest.mark.parametrize("pod", [pod_of(manifest) for manifest in WORKLOADS.values()], ids=list(WORKLOADS))
def test_pods_get_no_token_and_say_how_they_end(pod: Manifest) -> None:
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod
    for one in containers(pod):
        assert one["terminationMessagePolicy"] == "FallbackToLogsOnError"
        for row in one["env"]:
            assert ("value" in row) != ("valueFrom" in row)


@pytest.mark.parametrize("pod", [pod_of(manifest) for manifest in WORKLOADS.values()], ids=list(WORKLOADS))
def test_mounts_have_volumes_and_do_not_collide(pod: Manifest) -> None:
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(set(volumes)) == len(volumes)
    for one in containers(pod):
        paths = [mount["mountPath"] for mount in one["volumeMounts"]]
        assert len(set(paths)) == len(paths)
        assert {mount["name"] for mount in one["volumeMounts"]} <= set(volumes)


@pytest.mark.parametrize("manifest", CHILDREN, ids=lambda manifest: manifest["kind"])
def test_manifests_are_plain_json_without_nulls(manifest: Manifest) -> None:
    assert json.loads(json.dumps(manifest)) == manifest
    assert None not in list(leaves(manifest))


@pytest.mark.parametrize("manifest", CHILDREN, ids=lambda manifest: manifest["kind"])
def test_names_and_labels_fit_with_the_longest_owner(manifest: Manifest) -> None:
    names = [manifest["metadata"]["name"]]
    if manifest["kind"] == "Job":
        last = manifest["spec"]["completions"] - 1
        names += [f"{names[0]}-{last}", pod_of(manifest).get("subdomain", "a")]
    for name in names:
        assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
        assert len(name) <= 63
    labels = dict(manifest["metadata"]["labels"])
    if "template" in manifest["spec"]:
        labels |= manifest["spec"]["template"]["metadata"]["labels"]
    for value in labels.values():
        assert re.fullmatch(r"[A-Za-z0-9]([-_.A-Za-z0-9]*[A-Za-z0-9])?", value)
        assert len(value) <= 63


@pytest.mark.parametrize("manifest", CHILDREN, ids=lambda manifest: manifest["kind"])
def test_manifests_leave_namespace_and_owner_to_the_writer(manifest: Manifest) -> None:
    assert not {"namespace", "ownerReferences", "uid"} & set(manifest["metadata"])
    assert "status" not in manifest


def test_selectors_hold_the_uid() -> None:
    """So that children of a deleted object of the same name are never selected."""
    selectors = [
        gang_service(OWNER)["spec"]["selector"],
        service(OWNER, model_spec())["spec"]["selector"],
        disruption_budget(OWNER)["spec"]["selector"]["matchLabels"],
        serving()["spec"]["selector"]["matchLabels"],
    ]
    for selector in selectors:
        assert selector["lepton.ai/uid"] == OWNER.uid
    for manifest in (WORKLOADS["train"], serving()):
        assert selectors[0].items() <= manifest["spec"]["template"]["metadata"]["labels"].items()


def test_quantities_are_written_as_the_api_server_does() -> None:
    pod = pod_of(training(resources={"requests": {"cpu": "1000m"}, "limits": {"memory": "2048Mi"}}))
    assert pod["containers"][0]["resources"] == {"requests": {"cpu": "1"}, "limits": {"memory": "2Gi"}}
    for manifest in WORKLOADS.values():
        for one in containers(pod_of(manifest)):
            for amounts in one.get("resources", {}).values():
                assert all(canonical(amount) == amount for amount in amounts.values())
        for volume in pod_of(manifest)["volumes"]:
            if limit := volume.get("emptyDir", {}).get("sizeLimit"):
                assert canonical(limit) == limit


# -- preparing ---------------------------------------------------------------------------------------


def test_preparing_tells_the_task_and_mounts_the_source_read_only() -> None:
    pod = pod_of(WORKLOADS["prepare a claim"])
    told = task(pod["containers"][0], PrepareTask)
    assert (told.source_path, told.builtin) == ("2026", None)
    assert told.job_key.endswith(OWNER.uid)
    mounts = {mount["name"]: mount for mount in pod["containers"][0]["volumeMounts"]}
    assert mounts["source"]["readOnly"] is True
    assert mounts["store"]["subPath"] == "datasets"


def test_an_invalid_spec_says_so_and_disruptions_do_not_count() -> None:
    rules = WORKLOADS["prepare"]["spec"]["podFailurePolicy"]["rules"]
    assert [rule["action"] for rule in rules] == ["Ignore", "FailJob"]
    assert WORKLOADS["prepare"]["spec"]["template"]["spec"]["restartPolicy"] == "Never"


DEFAULTS = dataset_spec().to_json_dict()


@given(st.sets(st.sampled_from(sorted(DEFAULTS))))
def test_hashes_do_not_change_when_defaults_are_written_out(names: set[str]) -> None:
    """The API server writes all defaults into the object; a person may write some."""
    spec = dataset_spec(**{name: DEFAULTS[name] for name in names})
    assert content_hash(spec) == content_hash(dataset_spec())
    assert job_name(OWNER, spec) == job_name(OWNER, dataset_spec())


@given(
    st.sets(st.sampled_from(sorted(DEFAULTS["image"]))), st.sets(st.sampled_from(sorted(DEFAULTS["split"])))
)
def test_hashes_do_not_change_with_nested_defaults(image: set[str], split: set[str]) -> None:
    spec = dataset_spec(
        image={name: DEFAULTS["image"][name] for name in image},
        split={name: DEFAULTS["split"][name] for name in split},
    )
    assert content_hash(spec) == content_hash(dataset_spec())


BYTES_CHANGE = [
    PVC,
    {"image": {"height": 33}},
    {"normalization": {"offset": 1}},
    {"split": {"seed": 8}},
    {"maxInvalidFraction": 0.5},
    {"revision": "2"},
    {"storage": {"claimName": "other"}},
]
HOW_CHANGES = [
    {"parallelism": 2},
    {"resources": {"limits": {"memory": "1Gi"}}},
    {"podTemplate": {"nodeSelector": {"disk": "fast"}}},
    {"activeDeadlineSeconds": 9},
    {"backoffLimit": 9},
]


@pytest.mark.parametrize("change", BYTES_CHANGE)
def test_what_changes_the_bytes_changes_both_hashes(change: Manifest) -> None:
    assert content_hash(dataset_spec(**change)) != content_hash(dataset_spec())
    assert job_name(OWNER, dataset_spec(**change)) != job_name(OWNER, dataset_spec())


@pytest.mark.parametrize("change", HOW_CHANGES)
def test_how_it_is_done_changes_the_job_and_not_the_content(change: Manifest) -> None:
    assert content_hash(dataset_spec(**change)) == content_hash(dataset_spec())
    assert job_name(OWNER, dataset_spec(**change)) != job_name(OWNER, dataset_spec())


def test_hashes_are_what_they_were() -> None:
    """A change here prepares every dataset of every user again."""
    assert content_hash(dataset_spec()) == "0fb2c1018853bfe9"
    assert content_hash(dataset_spec(image={"height": 64})) == "03d163a5e8b02c9a"


# -- training ----------------------------------------------------------------------------------------


def test_a_gang_is_told_all_its_peers() -> None:
    job = attempt_job(OWNER, training_spec(workers=2), Pinned(KEY, "lepton-store"), 3, CONTEXT)
    told = task(pod_of(job)["containers"][0], TrainTask)
    name = job["metadata"]["name"]
    service_name = gang_service(OWNER)["metadata"]["name"]
    assert told.peers == [f"{name}-{index}.{service_name}.team.svc" for index in (0, 1)]
    assert pod_of(job)["subdomain"] == service_name
    assert (told.attempt, told.workers, told.job_uid) == (3, 2, OWNER.uid)
    assert job["spec"]["backoffLimit"] == 0
    assert (job["spec"]["completions"], job["spec"]["parallelism"]) == (2, 2)


def test_the_gang_publishes_addresses_before_it_is_ready() -> None:
    spec = gang_service(OWNER)["spec"]
    assert (spec["clusterIP"], spec["publishNotReadyAddresses"]) == ("None", True)


def test_training_mounts_its_own_parts_of_the_store_only() -> None:
    pod = pod_of(attempt_job(OWNER, training_spec(), Pinned(KEY, "other"), 1, CONTEXT))
    mounts = {mount["subPath"]: mount for mount in pod["containers"][0]["volumeMounts"] if "subPath" in mount}
    assert set(mounts) == {f"datasets/{KEY}", "models", f"checkpoints/{OWNER.uid}"}
    assert mounts[f"datasets/{KEY}"] == {
        "name": "data",
        "mountPath": "/lepton/dataset",
        "subPath": f"datasets/{KEY}",
        "readOnly": True,
    }
    whole = [mount["name"] for mount in pod["containers"][0]["volumeMounts"] if "subPath" not in mount]
    assert whole == ["scratch"]


# -- serving -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("artifact", "path", "url"),
    [(PATH_ARTIFACT, f"models/{DIGEST}", None), (URL_ARTIFACT, None, "https://example.org/m.tar.gz")],
)
def test_the_server_gets_its_model_from_an_init_container(
    artifact: ModelArtifact, path: str | None, url: str | None
) -> None:
    pod = pod_of(serving(artifact))
    (fetch,), (server,) = pod["initContainers"], pod["containers"]
    told = task(fetch, FetchTask)
    assert (told.path, told.url, told.sha256) == (path, url, DIGEST)
    assert all(mount["name"] != "source" for mount in server["volumeMounts"]), "never mounts the store"
    served = task(server, ServeTask)
    assert served.version_number == int(DIGEST[:12], 16)
    sources = [volume for volume in pod["volumes"] if volume["name"] == "source"]
    assert [volume["persistentVolumeClaim"]["readOnly"] for volume in sources] == ([True] if path else [])


def test_no_request_is_lost() -> None:
    manifest = serving()
    assert manifest["spec"]["strategy"]["rollingUpdate"] == {"maxUnavailable": 0, "maxSurge": 1}
    (server,) = pod_of(manifest)["containers"]
    sleep = server["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod_of(manifest)["terminationGracePeriodSeconds"] > sleep + task(server, ServeTask).drain_seconds


@pytest.mark.parametrize(
    ("spec", "same"),
    [
        ({"replicas": 5}, True),
        ({"startupDeadlineSeconds": 1200}, True),
        ({"resources": {"requests": {"cpu": "1000m"}}}, False),
    ],
)
def test_only_what_pods_see_rolls_them(spec: Manifest, same: bool) -> None:
    def stamp(manifest: Manifest) -> str:
        text: str = manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION]
        return text

    assert (stamp(serving(**spec)) == stamp(serving())) is same
    newer = Context(trainer_image="trainer:2", server_image="server:1")
    assert stamp(serving(context=newer)) == stamp(serving()), "servers do not know the trainer"
    assert stamp(serving(resources={"requests": {"cpu": "1"}})) == stamp(
        serving(resources={"requests": {"cpu": "1000m"}})
    )


# -- the store ---------------------------------------------------------------------------------------


def test_the_store_follows_the_settings() -> None:
    spec = store_claim("lepton-store", CONTEXT)["spec"]
    assert spec == {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "10Gi"}}}
    own = Context("t", "s", store_size="1Ti", store_class="fast", store_access_mode="ReadWriteOnce")
    assert store_claim("lepton-store", own)["spec"] == {
        "accessModes": ["ReadWriteOnce"],
        "resources": {"requests": {"storage": "1Ti"}},
        "storageClassName": "fast",
    }


def test_a_claim_that_is_source_and_store_is_one_volume() -> None:
    spec = dataset_spec(source={"pvc": {"claimName": "both", "path": "raw"}}, storage={"claimName": "both"})
    pod = prepare_job(OWNER, spec, CONTEXT)["spec"]["template"]["spec"]
    claims = [volume for volume in pod["volumes"] if "persistentVolumeClaim" in volume]
    assert len(claims) == 1
    mounts = {row["mountPath"]: row for row in pod["containers"][0]["volumeMounts"]}
    assert mounts["/lepton/source"]["name"] == mounts["/lepton/datasets"]["name"]
    assert mounts["/lepton/source"]["readOnly"] is True
