"""The pod of own code: what the user's program is told, what it can write, and what Lepton does around it."""

import json
from typing import Any

import pytest

from lepton_operator.desired.gang import Pinned, attempt_job, main_container, main_image, trainer_image
from lepton_workloads.contract.own_code import OwnCodeTask
from tests.unit.builders import CONTEXT, KEY
from tests.unit.desired.test_manifests import (
    OWN_CODE,
    OWNER,
    containers,
    pod_of,
    task,
    training,
    training_spec,
)

Manifest = dict[str, Any]


def own(**spec: Any) -> Manifest:
    return training(network=OWN_CODE, **spec)


def by_name(manifest: Manifest) -> dict[str, Manifest]:
    return {one["name"]: one for one in containers(pod_of(manifest))}


def environment(manifest: Manifest, index: int = 0) -> dict[str, str]:
    """As the kubelet makes it: `$(NAME)` of an earlier variable is replaced."""
    found: dict[str, str] = {}
    for row in by_name(manifest)["train"]["env"]:
        value = row.get("value", str(index))
        for name, earlier in found.items():
            value = value.replace(f"$({name})", earlier)
        found[row["name"]] = value
    return found


def writable(container: Manifest) -> dict[str, str]:
    """Folder -> sub-path of its volume, or the volume."""
    return {
        row["mountPath"]: row.get("subPath", row["name"])
        for row in container["volumeMounts"]
        if not row.get("readOnly")
    }


def test_own_code_comes_after_the_check_and_before_the_publishing() -> None:
    pod = pod_of(own())
    assert [one["name"] for one in pod["initContainers"]] == ["report", "check", "train"]
    assert [one["name"] for one in pod["containers"]] == ["publish"]
    always = [one["name"] for one in containers(pod) if one.get("restartPolicy") == "Always"]
    assert always == ["report"], "a sidecar: it runs beside the others"
    assert pod["restartPolicy"] == "Never"


def test_only_own_code_has_the_users_image_and_command() -> None:
    for name, one in by_name(own()).items():
        if name == "train":
            assert (one["image"], one["command"]) == ("team/trainer:7", ["python", "/code/train.py"])
            assert one["args"] == ["--deep", "$$"]
            assert "imagePullPolicy" not in one, "Kubernetes decides by the tag"
        else:
            assert one["image"] == CONTEXT.server_image
            assert one["command"] == ["python", "-m", f"lepton_workloads.own.{name}"]


def test_own_code_can_write_no_version_and_no_data() -> None:
    parts = by_name(own())
    assert writable(parts["train"]) == {
        "/lepton/checkpoints": f"checkpoints/{OWNER.uid}/own",
        "/lepton/output": "output",
        "/lepton/progress": "progress",
        "/tmp": "scratch",
    }
    assert writable(parts["report"]) == {"/tmp": "scratch"}
    assert "/lepton/models" not in writable(parts["check"])
    assert writable(parts["publish"])["/lepton/models"] == "models"
    assert "/lepton/output" not in writable(parts["publish"])


def test_own_code_is_told_all_that_the_contract_promises() -> None:
    told = environment(own(workers=2, training={"batchSize": 8, "seed": 3}), index=1)
    assert told["LEPTON_JOB"] == OWNER.full_name
    assert (told["LEPTON_JOB_UID"], told["LEPTON_WORKER_INDEX"], told["LEPTON_WORKERS"]) == (
        OWNER.uid,
        "1",
        "2",
    )
    assert json.loads(told["LEPTON_TRAINING"])["batchSize"] == 8
    assert told["LEPTON_SEED"] == "3"
    assert (told["LEPTON_DATASET"], told["LEPTON_DATASET_KEY"]) == ("digits", KEY)
    mounts = {row["mountPath"] for row in by_name(own())["train"]["volumeMounts"]}
    folders = (told[f"LEPTON_{name}_DIR"] for name in ("DATASET", "CHECKPOINTS", "OUTPUT"))
    assert set(folders) <= mounts
    files = (told["LEPTON_PROGRESS_FILE"], told["LEPTON_PUBLISHED_FILE"])
    assert {name.rpartition("/")[0] for name in files} == {"/lepton/progress"}
    assert told["LEPTON_ERROR_FILE"] == "/dev/termination-log"
    assert told["HOME"] == "/tmp"


def test_a_gang_gets_its_cluster_ready_made() -> None:
    manifest = own(workers=2)
    told = environment(manifest, index=1)
    peers = told["LEPTON_PEERS"].split(",")
    name = manifest["metadata"]["name"]
    service = f"{pod_of(manifest)['subdomain']}.{OWNER.namespace}.svc"
    assert peers == [f"{name}-0.{service}", f"{name}-1.{service}"]
    assert json.loads(told["TF_CONFIG"]) == {
        "cluster": {"worker": [f"{peer}:2222" for peer in peers]},
        "task": {"type": "worker", "index": 1},
    }
    assert "TF_CONFIG" not in environment(own())


def test_a_home_of_the_users_is_taken() -> None:
    assert (
        environment(own(podTemplate={"env": [{"name": "HOME", "value": "/home/me"}]}))["HOME"] == "/home/me"
    )


def test_leptons_containers_know_the_program_as_it_was_written() -> None:
    (train, publish) = (by_name(own())[name] for name in ("train", "publish"))
    text = next(row["value"] for row in publish["env"] if row["name"] == "LEPTON_TASK")
    assert '"$$$$"' in text, "the kubelet takes $$ for $"
    assert (
        task({"env": [{"name": "LEPTON_TASK", "value": text.replace("$$", "$")}]}, OwnCodeTask).code.args
        == (train["args"])
    )


@pytest.mark.parametrize(
    ("resources", "limits"),
    [
        ({}, None),
        ({"limits": {"memory": "2Gi"}}, {"memory": "128Mi"}),
        ({"limits": {"cpu": 2, "memory": "2Gi", "nvidia.com/gpu": 1}}, {"cpu": "100m", "memory": "128Mi"}),
    ],
)
def test_the_sidecar_takes_little_and_no_device(resources: Manifest, limits: Manifest | None) -> None:
    parts = by_name(own(resources=resources))
    assert parts["report"]["resources"].get("limits") == limits
    assert parts["report"]["resources"]["requests"] == {"cpu": "10m", "memory": "64Mi"}
    assert parts["publish"].get("resources") == parts["train"].get("resources")


def test_whose_outcome_and_image_count() -> None:
    for network in ({}, OWN_CODE):
        spec = training_spec(network=network)
        job = attempt_job(OWNER, spec, Pinned(KEY, "lepton-store"), 1, CONTEXT)
        assert pod_of(job)["containers"][0]["name"] == main_container(spec)
        assert pod_of(job)["containers"][0]["image"] == main_image(spec, CONTEXT)
        assert trainer_image(job) == ("team/trainer:7" if network else CONTEXT.trainer_image)
