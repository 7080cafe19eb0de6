"""The main job: three manifests become a model that answers; applied twice, it stays as it is."""

import base64
import json
from pathlib import Path

import pytest

from demo.predict import held_out
from tests.e2e.cluster import Namespace, dataset, manifest, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "01-digits"


@pytest.fixture(scope="module")
def served(shared: Namespace) -> Namespace:
    """A namespace in which the first example has come true."""
    shared.run("apply", "-f", str(EXAMPLE))
    shared.wait("lds/digits", "Ready")
    shared.wait("ltj/digits-cnn", "Succeeded", 300)
    shared.wait("lm/digits", "Ready")
    return shared


def test_three_manifests_become_a_model(served: Namespace) -> None:
    data = served.get("lds", "digits")["status"]
    assert (data["samples"], data["classes"], data["invalidFiles"]) == (1797, 10, 0)
    assert sum(data["splits"].values()) == 1797
    job = served.get("ltj", "digits-cnn")["status"]
    assert job["metrics"]["testAccuracy"] >= 0.9
    assert job["progress"]["epoch"] == "5/5"
    assert job["lineage"]["datasetDigest"] == data["digest"]
    model = served.get("lm", "digits")["status"]
    assert model["version"] == job["result"]["digest"][:12]
    assert model["readyReplicas"] == 2
    assert model["accuracy"] == job["accuracy"]


def test_the_table_says_it_in_one_line(served: Namespace) -> None:
    lines = served.run("get", "lds,ltj,lm", "--no-headers").splitlines()
    by_kind = {line.split("/")[0].split(".")[0]: line.split() for line in lines if line}
    assert by_kind["leptondataset"][1:6] == ["True", "Prepared", "1797", "10", "100%"]
    assert by_kind["leptontrainingjob"][1:4] == ["True", "Succeeded", "5/5"]
    assert by_kind["leptonmodel"][1:3] == ["True", "Serving"]
    assert by_kind["leptonmodel"][4] == "2/2"
    version = served.get("lm", "digits")["status"]["version"]
    assert by_kind["leptonmodel"][3] == version


def test_statuses_keep_the_contract(served: Namespace) -> None:
    wanted = {
        "lds": {"Ready", "Reconciling", "Stalled"},
        "ltj": {"Succeeded", "Reconciling", "Stalled"},
        "lm": {"Ready", "Available", "DriftDetected", "Reconciling", "Stalled"},
    }
    for kind, name in (("lds", "digits"), ("ltj", "digits-cnn"), ("lm", "digits")):
        item = served.get(kind, name)
        rows = item["status"]["conditions"]
        assert {row["type"] for row in rows} == wanted[kind]
        assert {row["observedGeneration"] for row in rows} == {item["metadata"]["generation"]}
        assert item["status"]["observedGeneration"] == item["metadata"]["generation"]
        assert {row["type"]: row["status"] for row in rows}["Reconciling"] == "False"
        assert {row["type"]: row["status"] for row in rows}["Stalled"] == "False"
        assert "finalizers" not in item["metadata"]


def test_held_out_pictures_are_classified(served: Namespace, tmp_path: Path) -> None:
    right = 0
    pictures = held_out(tmp_path)
    with served.http("digits") as http:
        for picture in pictures:
            kind = "image/jpeg" if picture.suffix == ".jpg" else "image/png"
            code, answer = http.call("/classify?top=3", picture.read_bytes(), kind)
            assert code == 200, answer
            assert len(answer["predictions"]) == 3
            probabilities = [row["probability"] for row in answer["predictions"]]
            assert probabilities == sorted(probabilities, reverse=True)
            right += answer["predictions"][0]["label"] == picture.name[0]
    assert right >= 8


def test_tensorflow_serving_clients_get_their_answers(served: Namespace, tmp_path: Path) -> None:
    picture = held_out(tmp_path)[0]
    instance = {"b64": base64.b64encode(picture.read_bytes()).decode()}
    with served.http("digits") as http:
        code, status = http.call("/v1/models/digits")
        assert code == 200
        assert status["model_version_status"][0]["state"] == "AVAILABLE"
        code, answer = http.call("/v1/models/digits:predict", json.dumps({"instances": [instance]}).encode())
        assert code == 200
        (probabilities,) = answer["predictions"]
        assert sum(probabilities) == pytest.approx(1, abs=1e-4)
        zeros = [[[0.0] * 3] * 32] * 32
        code, answer = http.call("/v1/models/digits:predict", json.dumps({"instances": [zeros]}).encode())
        assert (code, len(answer["predictions"][0])) == (200, 10)


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        ("/v1/models/other:predict", b'{"instances": []}', 404),
        ("/v1/models/digits:predict", b"{", 400),
        ("/v1/models/digits:predict", b'{"instances": [[1, 2]]}', 400),
        ("/classify", b"this is no picture", 400),
        ("/nowhere", None, 404),
        ("/classify", None, 405),
    ],
)
def test_bad_requests_get_an_error_in_json(
    served: Namespace, path: str, body: bytes | None, code: int
) -> None:
    with served.http("digits") as http:
        kind = "image/png" if path == "/classify" else "application/json"
        answered, answer = http.call(path, body, kind)
        assert answered in (code, 415 if path == "/classify" else code)
        assert answer["error"]


def test_the_server_tells_its_figures(served: Namespace) -> None:
    with served.http("digits") as http:
        assert http.call("/readyz")[0] == 200
        code, text = http.call("/metrics")
        assert code == 200
        assert "lepton_" in text


def test_a_second_apply_changes_nothing(served: Namespace) -> None:
    before = versions(served)
    assert served.run("apply", "-f", str(EXAMPLE)).count("unchanged") == 3
    # The operator has gone on working since: it answers a new object.
    served.apply(dataset("sentinel", source={"pvc": {"claimName": "nowhere"}}))
    served.wait_reason("lds", "sentinel", "SourceNotFound")
    assert versions(served) == before
    served.run("delete", "lds", "sentinel")


def versions(namespace: Namespace) -> dict[str, str]:
    """resourceVersion of all objects of the example and all that was made of them."""
    items = namespace.list(
        "lds,ltj,lm,jobs,deployments,services,poddisruptionbudgets,persistentvolumeclaims,pods"
    )
    return {
        f"{item['kind']}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
        for item in items
        if "sentinel" not in item["metadata"]["name"]
    }


def test_equal_data_is_not_prepared_again(served: Namespace) -> None:
    spec = served.get("lds", "digits")["spec"]
    served.apply(manifest("LeptonDataset", "twin", spec))
    served.wait("lds/twin", "Ready")
    assert served.get("lds", "twin")["status"]["digest"] == served.get("lds", "digits")["status"]["digest"]
    (pod,) = served.list("pods", "lepton.ai/name=twin")
    message = pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"]
    assert json.loads(message)["prepare"]["reused"] is True


def test_two_replicas_have_a_budget_and_one_has_none(served: Namespace) -> None:
    assert served.get("pdb", "digits")["spec"]["maxUnavailable"] == 1
    served.run("scale", "lm/digits", "--replicas=1")
    until(lambda: served.find("pdb", "digits") is None, "that the budget goes")
    until(lambda: served.get("lm", "digits")["status"].get("replicasReady") == "1/1", "one replica")
    served.run("apply", "-f", str(EXAMPLE))
    until(lambda: served.find("pdb", "digits"), "that the budget is back")
    served.wait("lm/digits", "Ready")


def test_the_model_outlives_its_training_job(served: Namespace) -> None:
    version = served.get("lm", "digits")["status"]["version"]
    served.run("delete", "ltj", "digits-cnn", "--wait=true")
    served.run("annotate", "lm", "digits", "example.com/looked-at=yes")
    served.apply(dataset("sentinel", source={"pvc": {"claimName": "nowhere"}}))
    served.wait_reason("lds", "sentinel", "SourceNotFound")
    status = served.get("lm", "digits")["status"]
    assert status["version"] == version
    assert served.condition("lm", "digits", "Ready")["status"] == "True"
    with served.http("digits") as http:
        assert http.call("/v1/models/digits")[0] == 200
