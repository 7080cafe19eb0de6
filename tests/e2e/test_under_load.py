"""What is done to a model's pods while clients ask over HTTP and gRPC: nothing is lost, and too many are refused."""

import base64
import json
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.e2e.cluster import Namespace, Object, dataset, model, training_job, until
from tests.e2e.load import GRPC, HTTP, THREADS, Told, load
from tests.e2e.workers import send

PODS = "lepton.ai/name=digits,lepton.ai/kind=LeptonModel"
APART = {
    "podAffinityTerm": {
        "topologyKey": "kubernetes.io/hostname",
        "labelSelector": {"matchLabels": {"lepton.ai/name": "digits"}},
    },
    "weight": 100,
}
SPREAD = {"affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [APART]}}}
PIXELS = 16 * 16
NUMBERS = json.dumps(
    {"inputs": [{"name": "image", "datatype": "FP32", "shape": [1, 16, 16, 1], "data": [0.5] * PIXELS}]}
)

CROWD = """
import collections, http.client, json, threading
body = bytes({inputs} * 16 * 16 * 4)
tensor = {{"name": "image", "datatype": "FP32", "shape": [{inputs}, 16, 16, 1]}}
head = json.dumps({{"inputs": [tensor | {{"parameters": {{"binary_data_size": len(body)}}}}]}}).encode()
whole = head + body
headers = {{"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}}
answers, start = collections.Counter(), threading.Barrier({clients})

def ask():
    connection = http.client.HTTPConnection("{host}", 80, timeout=60)
    connection.connect()
    start.wait()
    connection.request("POST", "/v2/models/{name}/infer", whole, headers)
    answer = connection.getresponse()
    answer.read()
    again = "retry-after" if answer.getheader("retry-after") else ""
    answers[f"{{answer.status}} {{again}}".strip()] += 1

threads = [threading.Thread(target=ask) for _ in range({clients})]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps(answers))
"""


def served_model(job: str = "cnn", replicas: int = 2) -> Object:
    """The model of this file."""
    return model(job=job, replicas=replicas, grpc=True, podTemplate=SPREAD)


@pytest.fixture(scope="module")
def served(shared: Namespace) -> Namespace:
    """A namespace with two versions, of which one is served by two pods."""
    shared.apply(
        dataset(), training_job(), training_job("other", training={"epochs": 1, "batchSize": 64, "seed": 8})
    )
    shared.wait("ltj/cnn", "Succeeded", 300)
    shared.wait("ltj/other", "Succeeded", 300)
    shared.apply(served_model())
    shared.wait("lm/digits", "Ready")
    return shared


@contextmanager
def asking(namespace: Namespace, image: str) -> Iterator[tuple[Told, Told]]:
    """Both clients at once."""
    with (
        load(
            namespace,
            image,
            HTTP,
            "http-client",
            "digits",
            "/v2/models/digits/infer",
            base64.b64encode(NUMBERS.encode()).decode(),
            {"Content-Type": "application/json"},
        ) as http,
        load(
            namespace,
            image,
            GRPC,
            "grpc-client",
            "digits",
            "/inference.GRPCInferenceService/ModelInfer",
            base64.b64encode(infer_request()).decode(),
        ) as grpc,
    ):
        yield http, grpc


def infer_request() -> bytes:
    """A ModelInferRequest as the client of the field writes it."""
    from tritonclient.grpc import service_pb2

    tensor = service_pb2.ModelInferRequest.InferInputTensor(
        name="image", datatype="FP32", shape=[1, 16, 16, 1]
    )
    tensor.contents.fp32_contents.extend([0.5] * PIXELS)
    request: bytes = service_pb2.ModelInferRequest(model_name="digits", inputs=[tensor]).SerializeToString()
    return request


def nothing_lost(*clients: Told) -> None:
    for told in clients:
        assert (told.lost, told.refused, told.unconnected) == (0, 0, 0), told
        assert told.answered > 100


def pods(namespace: Namespace) -> list[Object]:
    """Those that are not going."""
    return [pod for pod in namespace.list("pods", PODS) if "deletionTimestamp" not in pod["metadata"]]


def gone(namespace: Namespace, names: set[str]) -> None:
    until(
        lambda: not names & {pod["metadata"]["name"] for pod in namespace.list("pods", PODS)}, "the old pods"
    )


def names_of(namespace: Namespace) -> set[str]:
    return {pod["metadata"]["name"] for pod in pods(namespace)}


def test_more_and_fewer_pods_lose_no_request(served: Namespace, images: dict[str, str]) -> None:
    with asking(served, images["server"]) as clients:
        served.apply(served_model(replicas=4))
        until(lambda: served.get("lm", "digits")["status"].get("replicasReady") == "4/4", "four pods")
        before = names_of(served)
        served.apply(served_model())
        until(lambda: served.get("lm", "digits")["status"].get("replicasReady") == "2/2", "two pods")
        gone(served, before - names_of(served))
    nothing_lost(*clients)


def test_a_new_version_loses_no_request(served: Namespace, images: dict[str, str]) -> None:
    before = names_of(served)
    with asking(served, images["server"]) as clients:
        served.apply(served_model(job="other"))
        gone(served, before)
        served.wait("lm/digits", "Ready")
    nothing_lost(*clients)


def test_a_drained_node_loses_no_request(served: Namespace, images: dict[str, str]) -> None:
    served.apply(served_model())
    served.wait("lm/digits", "Ready")
    by_node = {pod["spec"]["nodeName"]: pod["metadata"]["name"] for pod in pods(served)}
    node, pod = sorted(by_node.items())[0]
    drain = ("drain", node, f"--pod-selector={PODS}", "--delete-emptydir-data", "--timeout=120s")
    with asking(served, images["server"]) as clients:
        try:
            served.kubectl.run(*drain, timeout=130)
            gone(served, {pod})
            served.wait("lm/digits", "Ready")
        finally:
            served.kubectl.run("uncordon", node)
    nothing_lost(*clients)


def test_a_killed_server_loses_only_what_it_had_in_hand(served: Namespace, images: dict[str, str]) -> None:
    (victim, *_) = pods(served)
    with asking(served, images["server"]) as clients:
        send(signal.SIGKILL, victim)

        def restarted() -> bool:
            status = served.get("pod", victim["metadata"]["name"])["status"]
            (one,) = status["containerStatuses"]
            return bool(one["restartCount"] >= 1 and one["ready"])

        until(restarted, "that the server is back")
    for told in clients:
        assert told.refused == 0, told
        assert told.lost <= THREADS, told
        assert told.answered > 100


def test_a_crowd_is_answered_or_told_to_come_again(served: Namespace, images: dict[str, str]) -> None:
    """More at once than one pod may hold: 80 requests of 4 MB."""
    served.apply(dataset(), model("alone"))
    served.wait("lm/alone", "Ready")
    clients = 80
    host = f"alone.{served.name}.svc"
    code = CROWD.format(host=host, name="alone", inputs=4096, clients=clients)
    answers = json.loads(served.run_python("crowd", images["server"], code, deadline=180))
    assert set(answers) <= {"200", "503 retry-after", "504"}, answers
    assert sum(answers.values()) == clients
    assert answers.get("200", 0) >= 5, answers
    assert answers.get("503 retry-after", 0) >= 5, answers
    (pod,) = served.list("pods", "lepton.ai/name=alone,lepton.ai/kind=LeptonModel")
    (container,) = pod["status"]["containerStatuses"]
    assert container["restartCount"] == 0, container
    with served.http("alone") as http:
        code, answer = http.call("/v2/models/alone/infer", NUMBERS.encode())
        assert code == 200, answer
