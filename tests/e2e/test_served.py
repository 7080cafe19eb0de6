"""What a served model offers beside predictions: tokens and TLS, maps, 8 bits, TensorFlow, alarms, drift, the log."""

import base64
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from demo.display import DemoError
from demo.predict import held_out
from tests.e2e.cluster import Http, Namespace, Object, dataset, model, python_pod, training_job, until

EXAMPLE = Path(__file__).parents[2] / "examples" / "05-door-camera"
MAIN = Path(__file__).parents[2] / "examples" / "01-digits"

SMALL_DROP = 0.02
"""Three of the 180 pictures that both networks are asked: which of them tip depends on the processor that trained."""

RECEIVER = """
import http.server, json, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        print(json.dumps({"event": {k.lower(): v for k, v in self.headers.items()}, "data": body}), flush=True)
        self.send_response(204)
        self.end_headers()
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def service(name: str, port: int = 80) -> Object:
    """A Service of the pod of that name."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name},
        "spec": {"selector": {"run": name}, "ports": [{"port": port, "targetPort": 8000}]},
    }


def secret(name: str, kind: str = "Opaque", **values: str) -> Object:
    """A Secret."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": kind,
        "metadata": {"name": name},
        "stringData": {key.replace("_", "."): value for key, value in values.items()},
    }


def certificate(folder: Path, host: str) -> tuple[str, str]:
    """A self-signed certificate and its key."""
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-days", "2"]
    subprocess.run(
        [*command, "-keyout", str(folder / "key"), "-out", str(folder / "crt")],
        check=True,
        capture_output=True,
    )
    return (folder / "crt").read_text(), (folder / "key").read_text()


@pytest.fixture(scope="module")
def trained(shared: Namespace) -> Namespace:
    """A namespace in which the first example's network is trained."""
    shared.run("apply", "-f", str(MAIN / "1-dataset.yaml"), "-f", str(MAIN / "2-training.yaml"))
    shared.wait("ltj/digits-cnn", "Succeeded", 300)
    return shared


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Held-out digits."""
    return held_out(tmp_path_factory.mktemp("pictures"))


def kind_of(picture: Path) -> str:
    return "image/jpeg" if picture.suffix == ".jpg" else "image/png"


def classified(http: Http, picture: Path, **headers: str) -> Any:
    code, answer = http.call("/classify?top=10", picture.read_bytes(), kind_of(picture), headers)
    assert code == 200, answer
    return answer["predictions"]


def test_a_token_and_tls_guard_both_ports(trained: Namespace, tmp_path: Path, images: dict[str, str]) -> None:
    crt, key = certificate(tmp_path, f"guarded.{trained.name}.svc")
    guarded = model(
        "guarded",
        "digits-cnn",
        grpc=True,
        security={"tokenSecret": {"name": "openers"}, "tlsSecret": {"name": "papers"}},
    )
    trained.apply(guarded)
    row = trained.wait_reason("lm", "guarded", "VolumeNotReady", deadline=180)
    assert "papers" in row["message"] or "openers" in row["message"]
    trained.apply(
        secret("openers", alice="sesame"), secret("papers", "kubernetes.io/tls", tls_crt=crt, tls_key=key)
    )
    trained.wait("lm/guarded", "Ready", 240)
    assert trained.get("lm", "guarded")["status"]["url"] == f"https://guarded.{trained.name}.svc"
    with trained.http("guarded", 443) as http:
        assert http.call("/v2/health/ready")[0] == 200
        code, answer = http.call("/v1/models/guarded")
        assert (code, list(answer)) == (401, ["error"])
    with trained.http("guarded", 443, token="sesame") as http:
        assert http.call("/v1/models/guarded")[0] == 200
    code = GRPC_CLIENT.format(host=f"guarded.{trained.name}.svc", crt=crt)
    told = trained.run_python("grpc-client", images["server"], code)
    assert told.split() == ["UNAUTHENTICATED", "OK"]
    trained.apply(secret("openers", bob="open-please"))
    with trained.http("guarded", 443, token="open-please") as http:
        until(lambda: http.call("/v1/models/guarded")[0] == 200, "that the new token opens", 180)


GRPC_CLIENT = '''
import grpc
certificate = """{crt}"""
credentials = grpc.ssl_channel_credentials(certificate.encode())
with grpc.secure_channel("{host}:9000", credentials) as channel:
    call = channel.unary_unary("/inference.GRPCInferenceService/ServerMetadata")
    for metadata in ((), (("authorization", "Bearer sesame"),)):
        try:
            call(b"", timeout=20, metadata=metadata, wait_for_ready=True)
            print("OK")
        except grpc.RpcError as error:
            print(error.code().name)
'''


def test_the_page_and_explanations_come_from_the_pod(trained: Namespace, pictures: list[Path]) -> None:
    trained.apply(model("seen", "digits-cnn"))
    trained.wait("lm/seen", "Ready")
    with trained.http("seen") as http:
        code, page = http.call("/", headers={"Accept": "text/html"})
        assert (code, "<html" in page) == (200, True)
        for picture in pictures[:3]:
            best = classified(http, picture)[0]
            code, png = http.call("/explain?format=png", picture.read_bytes(), kind_of(picture))
            assert (code, png[:4]) == (200, b"\x89PNG")
            code, told = http.call("/explain?format=json", picture.read_bytes(), kind_of(picture))
            assert code == 200
            assert told["label"] == best["label"]


def test_8_bits_answer_nearly_as_32(trained: Namespace, pictures: list[Path]) -> None:
    trained.apply(
        model("small", "digits-cnn", precision="int8", maxAccuracyDrop=SMALL_DROP),
        model("seen", "digits-cnn"),
    )
    trained.wait("lm/small", "Ready")
    trained.wait("lm/seen", "Ready")
    with trained.http("small") as small, trained.http("seen") as large:
        for picture in pictures:
            few, many = classified(small, picture), classified(large, picture)
            by_label = {row["label"]: row["probability"] for row in many}
            assert all(abs(row["probability"] - by_label[row["label"]]) < 0.1 for row in few)
        assert small.call("/explain?format=json", pictures[0].read_bytes(), kind_of(pictures[0]))[0] == 200


def test_8_bits_pass_a_gate_that_allows_just_their_drop(trained: Namespace) -> None:
    job = trained.get("ltj", "digits-cnn")["status"]
    drop = job["metrics"]["floatAccuracy"] - job["metrics"]["int8Accuracy"]
    trained.apply(model("small", "digits-cnn", precision="int8", maxAccuracyDrop=max(0.0, drop)))
    trained.wait("lm/small", "Ready")
    assert trained.condition("lm", "small", "Stalled")["status"] == "False"


def test_a_pod_speaks_all_that_clients_of_the_field_speak(
    trained: Namespace, pictures: list[Path], images: dict[str, str]
) -> None:
    trained.apply(model("seen", "digits-cnn", grpc=True))
    trained.wait("lm/seen", "Ready")
    picture = pictures[0]
    with trained.http("seen") as http:
        code, document = http.call("/openapi.json")
        assert code == 200
        assert document["openapi"].startswith("3.")
        assert "/v2/models/{model}/infer" in document["paths"]
        best = classified(http, picture)[0]
        head = f'--cut\r\nContent-Disposition: form-data; name="image"; filename="{picture.name}"\r\n'
        kind = f"Content-Type: {kind_of(picture)}\r\n\r\n"
        form = (head + kind).encode() + picture.read_bytes() + b"\r\n--cut--\r\n"
        code, answer = http.call("/classify?top=1", form, "multipart/form-data; boundary=cut")
        assert (code, answer["predictions"][0]["label"]) == (200, best["label"])
        packed = {"instances": [{"b64": base64.b64encode(picture.read_bytes()).decode()}]}
        code, answer = http.call("/v1/models/seen:predict", json.dumps(packed).encode())
        assert code == 200, answer
        assert max(answer["predictions"][0]) == pytest.approx(best["probability"], abs=1e-6)
    code = TENSORFLOW_SERVING.format(host=f"seen.{trained.name}.svc")
    told = json.loads(trained.run_python("tf-client", images["server"], code))
    assert told == {"name": "seen", "method": "tensorflow/serving/predict"}


TENSORFLOW_SERVING = """
import grpc, json
from lepton_workloads.serve.rpc.protos import tensorflow_serving_pb2 as serving
asked = serving.GetModelMetadataRequest(metadata_field=["signature_def"])
asked.model_spec.name = "seen"
with grpc.insecure_channel("{host}:9000") as channel:
    call = channel.unary_unary(
        "/tensorflow.serving.PredictionService/GetModelMetadata",
        serving.GetModelMetadataRequest.SerializeToString,
        serving.GetModelMetadataResponse.FromString,
    )
    answer = call(asked, timeout=20, wait_for_ready=True)
signatures = serving.SignatureDefMap.FromString(answer.metadata["signature_def"].value)
method = signatures.signature_def["serving_default"].method_name
print(json.dumps(dict(name=answer.model_spec.name, method=method)))
"""


def test_prometheus_finds_a_pods_metrics_where_its_annotations_say(
    trained: Namespace, pictures: list[Path]
) -> None:
    trained.apply(model("seen", "digits-cnn", grpc=True))
    trained.wait("lm/seen", "Ready")
    wanted = {"requests", "request_duration_seconds", "queue_seconds", "inference_seconds", "decode_seconds"}

    def told() -> bool:
        # A pod of the spec before may still be there, and be the one that is asked.
        with trained.http("seen") as http:
            classified(http, pictures[0])
        try:
            return {f"lepton_server_{name}" for name in wanted} <= scraped(trained, "seen")
        except DemoError:  # it has gone meanwhile
            return False

    until(told, "that the metrics of predictions are counted")


def scraped(namespace: Namespace, name: str) -> set[str]:
    """Names of the metrics of a model's pods that are not 0."""
    text = ""
    for pod in namespace.list("pods", f"lepton.ai/name={name},lepton.ai/kind=LeptonModel"):
        if "deletionTimestamp" not in pod["metadata"]:
            notes = pod["metadata"]["annotations"]
            assert notes["prometheus.io/scrape"] == "true"
            address = f"{pod['metadata']['name']}:{notes['prometheus.io/port']}"
            place = f"pods/{address}/proxy{notes['prometheus.io/path']}"
            text += namespace.run("get", "--raw", f"/api/v1/namespaces/{namespace.name}/{place}")
    return {
        family.name
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.value > 0
    }


def test_tensorflow_answers_as_litert_does(trained: Namespace, pictures: list[Path]) -> None:
    trained.apply(model("heavy", "digits-cnn", engine="tensorflow"), model("seen", "digits-cnn"))
    trained.wait("lm/heavy", "Ready", 240)
    trained.wait("lm/seen", "Ready")
    with trained.http("heavy") as heavy, trained.http("seen") as light:
        for picture in pictures[:5]:
            by_label = {row["label"]: row["probability"] for row in classified(light, picture)}
            for row in classified(heavy, picture):
                assert abs(row["probability"] - by_label[row["label"]]) <= 1e-5
        assert heavy.call("/explain?format=json", pictures[0].read_bytes(), kind_of(pictures[0]))[0] == 501


def test_the_example_raises_alarms_tells_drift_and_keeps_requests(
    trained: Namespace, pictures: list[Path], images: dict[str, str]
) -> None:
    trained.apply(python_pod("alarm-receiver", images["server"], RECEIVER), service("alarm-receiver"))
    (camera,) = yaml.safe_load_all((EXAMPLE / "model.yaml").read_text())
    trained.run("apply", "-f", str(EXAMPLE))
    trained.wait("lm/door-camera", "Ready")
    assert trained.condition("lm", "door-camera", "DriftDetected")["status"] == "False"
    seven = next(picture for picture in pictures if picture.name.startswith("7"))
    with trained.http("door-camera") as http:
        for _ in range(3):
            classified(http, seven, **{"lepton-source": "door-3"})
        event, data = until(lambda: events(trained), "the alarm")[0]
        rule = camera["spec"]["alarms"][0]["name"]
        assert (event["ce-subject"], event["ce-specversion"], data["rule"]) == ("door-3", "1.0", rule)
        drifted(http, seven)
        row = until(lambda: drift(trained), "DriftDetected", 240)
        assert "predicted" in row["message"]
    trained.run("delete", "pod", "-l", "lepton.ai/name=door-camera,lepton.ai/kind=LeptonModel", "--wait=true")
    kept = trained.run_python("reader", images["server"], READER, "lepton-store")
    assert int(kept) >= 500
    said = [
        event["reason"]
        for event in trained.list("events")
        if event["involvedObject"]["name"] == "door-camera"
    ]
    assert "DriftDetected" in said


READER = """
import pathlib
folder = pathlib.Path("/data/requests/door-camera")
print(sum(len(file.read_text().splitlines()) for file in folder.rglob("*.jsonl")))
"""


def events(namespace: Namespace) -> list[tuple[Any, Any]]:
    """What the receiver got."""
    lines = [json.loads(line) for line in namespace.run("logs", "alarm-receiver").splitlines()]
    return [(line["event"], line["data"]) for line in lines]


def drifted(http: Http, picture: Path) -> None:
    """So many of one and the same picture that they are all a window holds, several times over."""
    for _ in range(1900):
        classified(http, picture, **{"lepton-source": "door-3"})


def drift(namespace: Namespace) -> Object | None:
    row = namespace.condition("lm", "door-camera", "DriftDetected")
    return row if row["status"] == "True" else None


def test_a_model_without_secrets_needs_neither(trained: Namespace) -> None:
    """From guarded to open and back: the ports of the Service follow."""
    trained.apply(dataset("other"), training_job("little", dataset={"name": "other"}))
    trained.wait("ltj/little", "Succeeded", 300)
    trained.apply(model("changing", "little", grpc=True))
    trained.wait("lm/changing", "Ready")
    assert ports(trained) == {"http": 80, "grpc": 9000}
    trained.apply(model("changing", "little"))
    until(lambda: ports(trained) == {"http": 80}, "that the port of gRPC goes")
    trained.wait("lm/changing", "Ready")


def ports(namespace: Namespace) -> dict[str, int]:
    rows = namespace.get("service", "changing")["spec"]["ports"]
    return {row["name"]: row["port"] for row in rows}
