"""Where versions come from, and how one follows the other without a gap."""

import hashlib
import json

import pytest

from tests.e2e.cluster import Namespace, dataset, model, python_pod, training_job, until

CLIENT = """
import json, os, sys, time, urllib.request
url, wanted, end = "http://digits.{namespace}.svc/v1/models/digits", None, time.monotonic() + 240
opener = urllib.request.build_opener(urllib.request.ProxyHandler({{}}))
seen, failures, after = {{}}, [], 0
while time.monotonic() < end and after < 50:
    try:
        with opener.open(url, timeout=5) as answer:
            version = json.load(answer)["model_version_status"][0]["version"]
        seen[version] = seen.get(version, 0) + 1
        after = after + 1 if version != next(iter(seen)) else 0
    except Exception as error:
        failures.append(repr(error))
    time.sleep(0.02)
print(json.dumps({{"seen": seen, "failures": failures}}))
"""

PACK = """
import hashlib, pathlib, tarfile
digest = "{digest}"
with tarfile.open("/data/packed.tar.gz", "w:gz") as archive:
    archive.add(f"/data/models/{digest}", arcname="model")
print(hashlib.sha256(pathlib.Path("/data/packed.tar.gz").read_bytes()).hexdigest())
"""

HTTP_SERVER = """
import http.server, os
os.chdir("/data")
http.server.ThreadingHTTPServer(("", 8000), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


@pytest.fixture(scope="module")
def trained(shared: Namespace) -> Namespace:
    """A namespace with two finished training jobs, `cnn` and `other`."""
    shared.apply(
        dataset(), training_job(), training_job("other", training={"epochs": 1, "batchSize": 64, "seed": 8})
    )
    shared.wait("ltj/cnn", "Succeeded", 300)
    shared.wait("ltj/other", "Succeeded", 300)
    return shared


def test_a_new_version_rolls_out_without_a_gap(trained: Namespace, images: dict[str, str]) -> None:
    trained.apply(model(replicas=2))
    trained.wait("lm/digits", "Ready")
    first = trained.get("lm", "digits")["status"]["version"]
    trained.apply(python_pod("client", images["server"], CLIENT.format(namespace=trained.name)))
    until(lambda: trained.get("pod", "client")["status"].get("phase") == "Running", "the client")
    trained.apply(model(job="other", replicas=2))
    until(lambda: trained.get("lm", "digits")["status"]["version"] != first, "the new version")
    trained.wait("lm/digits", "Ready")
    until(lambda: trained.get("pod", "client")["status"].get("phase") == "Succeeded", "the client's end", 250)
    told = json.loads(trained.run("logs", "client").splitlines()[-1])
    assert told["failures"] == []
    assert len(told["seen"]) == 2
    second = trained.get("lm", "digits")["status"]["version"]
    assert set(told["seen"]) == {str(int(first, 16)), str(int(second, 16))}


def test_the_old_version_serves_on_while_the_new_one_is_not_there(trained: Namespace) -> None:
    trained.apply(model("patient"))
    trained.wait("lm/patient", "Ready")
    version = trained.get("lm", "patient")["status"]["version"]
    trained.apply(model("patient", job="later"))
    trained.wait_reason("lm", "patient", "TrainingJobNotFound")
    assert trained.condition("lm", "patient", "Available")["status"] == "True"
    assert trained.condition("lm", "patient", "Ready")["status"] == "False"
    assert trained.get("lm", "patient")["status"]["version"] == version
    with trained.http("patient") as http:
        assert http.call("/v1/models/patient")[0] == 200


def test_a_folder_on_a_claim_is_served(trained: Namespace) -> None:
    result = trained.get("ltj", "cnn")["status"]["result"]
    uri = f"pvc://{result['claimName']}/{result['path']}"
    trained.apply(model("by-claim", source={"uri": uri, "sha256": result["digest"]}))
    trained.wait("lm/by-claim", "Ready")
    trained.apply(model("forged", source={"uri": uri, "sha256": "0" * 64}))
    trained.wait_reason("lm", "forged", "ChecksumMismatch")
    assert trained.condition("lm", "forged", "Stalled")["status"] == "True"


def test_an_archive_behind_an_address_is_served(trained: Namespace, images: dict[str, str]) -> None:
    result = trained.get("ltj", "cnn")["status"]["result"]
    packed = trained.run_python(
        "packer", images["server"], PACK.format(digest=result["digest"]), result["claimName"]
    )
    sha256 = packed.split()[-1]
    assert len(sha256) == len(hashlib.sha256().hexdigest())
    trained.apply(
        python_pod("files", images["server"], HTTP_SERVER, result["claimName"]),
        {
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "files"},
            "spec": {"selector": {"run": "files"}, "ports": [{"port": 8000}]},
        },
    )
    uri = f"http://files.{trained.name}.svc:8000/packed.tar.gz"
    trained.apply(model("by-address", source={"uri": uri, "sha256": sha256}))
    trained.wait("lm/by-address", "Ready")
    trained.apply(model("absent", source={"uri": uri + ".gone", "sha256": sha256}))
    trained.wait_reason("lm", "absent", "DownloadFailed", deadline=120)


def test_a_model_of_a_failed_job_says_so(trained: Namespace) -> None:
    trained.apply(training_job("doomed", activeDeadlineSeconds=1), model("hopeless", job="doomed"))
    trained.wait_reason("ltj", "doomed", "DeadlineExceeded", "Succeeded")
    row = trained.wait_reason("lm", "hopeless", "TrainingJobFailed")
    assert "DeadlineExceeded" in row["message"]
