"""spec.podTemplate: what reaches the pods, in which form, and what it can't change."""

from typing import Any

import pytest

from lepton_operator.api.pod_template import (
    LEPTON_ENV_PREFIX,
    OWN_ANNOTATIONS,
    OWN_ENV,
    OWN_LABELS,
    OWN_PREFIXES,
)
from lepton_operator.api.volumes import CLOSED_FOLDERS, CLOSED_PLACES, OWN_VOLUMES
from lepton_operator.desired.gang import Pinned, attempt_job
from lepton_operator.desired.own_code import HOME_ENV
from lepton_operator.desired.prepare_job import prepare_job
from lepton_operator.desired.serving import TEMPLATE_ANNOTATION
from lepton_workloads.contract.tasks import INDEX_ENV, SCRATCH_DIR, SOURCE_DIR, THREADS_ENV
from tests.unit.builders import CONTEXT, KEY
from tests.unit.desired.test_manifests import (
    OWN_CODE,
    OWNER,
    WORKLOADS,
    containers,
    dataset_spec,
    leaves,
    pod_of,
    serving,
    training,
    training_spec,
)

Manifest = dict[str, Any]

FULL: Manifest = {
    "labels": {"team": "vision"},
    "annotations": {"example.com/note": "any text"},
    "nodeSelector": {"disk": ""},
    "tolerations": [{"key": "gpu", "operator": "Exists"}, {"key": "a", "value": "b", "effect": "NoExecute"}],
    "affinity": {"podAntiAffinity": {"x": [{"namespaceSelector": {}, "matchLabels": {"a": ""}, "y": None}]}},
    "priorityClassName": "high",
    "runtimeClassName": "sandbox",
    "schedulerName": "own",
    "imagePullSecrets": [{"name": "registry"}],
    "env": [
        {"name": "EMPTY", "value": ""},
        {"name": "PLACE", "value": "here"},
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k", "optional": True}}},
    ],
    "envFrom": [{"secretRef": {"name": "s"}}, {"prefix": "P_", "configMapRef": {"name": "c"}}],
    "volumes": [
        {"name": "shm", "mountPath": "/dev/shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1024Mi"}},
        {"name": "disk", "mountPath": "/disk", "emptyDir": {}},
        {
            "name": "photos",
            "mountPath": "/photos",
            "subPath": "2026/june",
            "readOnly": True,
            "persistentVolumeClaim": {"claimName": "photos"},
        },
        {
            "name": "keys",
            "mountPath": "/keys",
            "secret": {"secretName": "s", "items": [{"key": "k", "path": "a/b"}]},
        },
        {"name": "code", "mountPath": "/code", "configMap": {"name": "c", "optional": True}},
    ],
}


def with_template(template: Manifest) -> dict[str, Manifest]:
    """A workload of each kind whose spec has the template."""
    return {
        "prepare": prepare_job(OWNER, dataset_spec(podTemplate=template), CONTEXT),
        "own code": training(network=OWN_CODE, podTemplate=template),
        "train": attempt_job(
            OWNER, training_spec(podTemplate=template), Pinned(KEY, "lepton-store"), 1, CONTEXT
        ),
        "serve": serving(podTemplate=template),
    }


BARE, ALL = with_template({}), with_template(FULL)
workloads = pytest.mark.parametrize("name", sorted(ALL))


@workloads
def test_all_parts_reach_the_pods(name: str) -> None:
    pod = pod_of(ALL[name])
    assert ALL[name]["spec"]["template"]["metadata"]["labels"]["team"] == "vision"
    assert ALL[name]["spec"]["template"]["metadata"]["annotations"]["example.com/note"] == "any text"
    for field in (
        "priorityClassName",
        "runtimeClassName",
        "schedulerName",
        "imagePullSecrets",
        "nodeSelector",
    ):
        assert pod[field] == FULL[field]
    for one in containers(pod):
        added = {row["name"]: row for row in one["env"]}
        assert added["PLACE"] == {"name": "PLACE", "value": "here"}
        assert added["TOKEN"]["valueFrom"]["secretKeyRef"] == {"name": "s", "key": "k", "optional": True}
        assert [set(source) for source in one["envFrom"]] == [{"secretRef"}, {"prefix", "configMapRef"}]


@workloads
def test_they_have_the_form_in_which_the_api_server_keeps_them(name: str) -> None:
    pod = pod_of(ALL[name])
    assert pod["tolerations"] == [
        {"key": "gpu", "operator": "Exists"},
        {"key": "a", "operator": "Equal", "value": "b", "effect": "NoExecute"},
    ]
    term = {"namespaceSelector": {}, "matchLabels": {"a": ""}}
    assert pod["affinity"] == {"podAntiAffinity": {"x": [term]}}
    assert {"name": "EMPTY"} in pod["containers"][0]["env"]
    assert None not in list(leaves(ALL[name]))


@workloads
def test_volumes_are_mounted_by_all_containers(name: str) -> None:
    pod = pod_of(ALL[name])
    volumes = {row["name"]: row for row in pod["volumes"]}
    assert volumes["shm"] == {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    assert volumes["disk"] == {"name": "disk", "emptyDir": {}}
    assert volumes["photos"]["persistentVolumeClaim"] == {"claimName": "photos"}
    keys = {"secretName": "s", "optional": False, "items": [{"key": "k", "path": "a/b"}]}
    assert volumes["keys"]["secret"] == keys
    assert volumes["code"]["configMap"] == {"name": "c", "optional": True}
    for one in containers(pod):
        mounts = {row["mountPath"]: row for row in one["volumeMounts"]}
        assert {"/dev/shm", "/disk", "/photos", "/keys", "/code"} <= set(mounts)
        assert mounts["/photos"] == {
            "name": "photos",
            "mountPath": "/photos",
            "subPath": "2026/june",
            "readOnly": True,
        }
        assert mounts["/code"] == {"name": "code", "mountPath": "/code"}


def test_a_claim_that_the_pod_has_already_is_no_second_volume() -> None:
    """The kubelet mounts a claim once per pod."""
    claim = {"persistentVolumeClaim": {"claimName": "lepton-store"}}
    rows = [
        {"name": "again", "mountPath": "/all", "readOnly": True, **claim},
        {"name": "part", "mountPath": "/part", "subPath": "models", **claim},
    ]
    for manifest in with_template({"volumes": rows}).values():
        pod = pod_of(manifest)
        (volume,) = [
            row
            for row in pod["volumes"]
            if row.get("persistentVolumeClaim", {}).get("claimName") == "lepton-store"
        ]
        assert "readOnly" not in volume["persistentVolumeClaim"], "one of the mounts may write"
        for one in containers(pod):
            mounts = {row["mountPath"]: row for row in one["volumeMounts"]}
            assert (mounts["/all"]["name"], mounts["/all"]["readOnly"]) == (volume["name"], True)
            assert mounts["/part"] == {"name": volume["name"], "mountPath": "/part", "subPath": "models"}


@pytest.mark.parametrize("read_only", [True, False])
def test_what_lepton_only_reads_it_only_reads_still(read_only: bool) -> None:
    row = {"name": "mine", "mountPath": "/mine", "readOnly": read_only}
    claim = {"persistentVolumeClaim": {"claimName": "lepton-store"}}
    pod = pod_of(with_template({"volumes": [row | claim]})["serve"])
    (source,) = [one for one in pod["volumes"] if one["name"] == "source"]
    assert source["persistentVolumeClaim"].get("readOnly", False) is read_only
    (own,) = [
        row for one in containers(pod) for row in one["volumeMounts"] if row["mountPath"] == str(SOURCE_DIR)
    ]
    assert own["readOnly"] is True


@workloads
def test_everything_of_leptons_stays(name: str) -> None:
    bare, full = BARE[name]["spec"]["template"], ALL[name]["spec"]["template"]
    for part in ("labels", "annotations"):
        assert bare["metadata"].get(part, {}).items() <= full["metadata"][part].items()
    for before, after in zip(containers(bare["spec"]), containers(full["spec"]), strict=True):
        own = [row["name"] for row in before["env"]]
        assert own == [row["name"] for row in after["env"]][: len(own)], "$(NAME) means Lepton's own"
        assert after["volumeMounts"][: len(before["volumeMounts"])] == before["volumeMounts"]
        kept = set(before) - {"env", "volumeMounts"}
        assert {field: after[field] for field in kept} == {field: before[field] for field in kept}
    assert full["spec"]["volumes"][: len(bare["spec"]["volumes"])] == bare["spec"]["volumes"]
    kept = set(bare["spec"]) - {"containers", "initContainers", "volumes"}
    assert {field: full["spec"][field] for field in kept} == {field: bare["spec"][field] for field in kept}


@workloads
def test_what_is_leptons_wins_though_the_schema_should_have_refused_it(name: str) -> None:
    bare = BARE[name]["spec"]["template"]
    forged = with_template(
        {
            "labels": dict.fromkeys(bare["metadata"]["labels"], "forged"),
            "env": [{"name": THREADS_ENV, "value": "forged"}],
            "volumes": [{"name": "forged", "mountPath": str(SCRATCH_DIR), "emptyDir": {}}],
        }
    )[name]
    assert forged["spec"]["template"]["metadata"] == bare["metadata"]
    for one in containers(pod_of(forged)):
        (told,) = [row["value"] for row in one["env"] if row["name"] == THREADS_ENV]
        assert told != "forged"
        (scratch,) = [row for row in one["volumeMounts"] if row["mountPath"] == str(SCRATCH_DIR)]
        assert scratch["name"] != "forged"


@pytest.mark.parametrize("name", ["train", "serve"])
def test_an_empty_template_changes_nothing(name: str) -> None:
    empty = {
        "labels": {},
        "volumes": [],
        "env": [],
        "envFrom": [],
        "tolerations": [],
        "affinity": {},
        "nodeSelector": {},
    }
    assert with_template(empty)[name] == BARE[name]


def test_a_changed_template_rolls_the_servers() -> None:
    def stamp(manifest: Manifest) -> str:
        text: str = manifest["metadata"]["annotations"][TEMPLATE_ANNOTATION]
        return text

    assert stamp(ALL["serve"]) != stamp(BARE["serve"])


def closed(path: str) -> bool:
    return path in CLOSED_PLACES or any(f"{path}/".startswith(f"{folder}/") for folder in CLOSED_FOLDERS)


def test_all_that_lepton_sets_is_refused_in_the_schema() -> None:
    """The rules of the CRD are made of these constants; the manifests must not outgrow them."""
    for manifest in WORKLOADS.values():
        metadata = manifest["spec"]["template"]["metadata"]
        for names, own in (
            (metadata["labels"], OWN_LABELS),
            (metadata.get("annotations", {}), OWN_ANNOTATIONS),
        ):
            assert all(name.startswith(OWN_PREFIXES) or name in own for name in names)
        for one in containers(pod_of(manifest)):
            names = {row["name"] for row in one["env"]} - {*OWN_ENV, HOME_ENV}
            assert all(name.startswith(LEPTON_ENV_PREFIX) for name in names)
            assert all(closed(row["mountPath"]) for row in one["volumeMounts"])
        assert {row["name"] for row in pod_of(manifest)["volumes"]} <= set(OWN_VOLUMES)
    assert INDEX_ENV in OWN_ENV
