"""A client in the cluster that asks without pause while the test does something to the servers, and counts."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from demo.display import DemoError
from tests.e2e.cluster import Namespace, python_pod, until

THREADS = 8
SECONDS = 300
"""After so long a client ends by itself, and the test fails."""

COMMON = """
import base64, collections, http.client, json, os, threading, time
host, path, body = {host!r}, {path!r}, base64.b64decode({body!r})
headers = {headers!r}
end = time.monotonic() + {seconds}
counts = collections.Counter()
failures = []

def over():
    return os.path.exists("/tmp/stop") or time.monotonic() > end

def run(ask_forever):
    threads = [threading.Thread(target=ask_forever) for _ in range({threads})]
    for thread in threads:
        thread.start()
    while not over():
        with open("/tmp/new", "w") as file:
            file.write(str(counts["answered"]))
        os.replace("/tmp/new", "/tmp/answered")
        time.sleep(0.2)
    for thread in threads:
        thread.join()
    print(json.dumps({{"counts": counts, "failures": failures[:20]}}), flush=True)
"""

HTTP = (
    COMMON
    + """
def ask_forever():
    connection = None
    while not over():
        sent = False
        try:
            if connection is None:
                connection = http.client.HTTPConnection(host, 80, timeout=30)
                connection.connect()
            sent = True
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            content = answer.read()
            if answer.status != 200:
                counts["refused"] += 1
                failures.append([answer.status, content.decode()[:300]])
            counts["answered"] += 1
            if answer.getheader("connection") == "close":
                connection = None
        except Exception as error:
            connection = None
            counts["lost" if sent else "unconnected"] += 1
            if sent:
                failures.append(repr(error))
            time.sleep(0.05)
        time.sleep(0.01)

run(ask_forever)
"""
)

GRPC = (
    COMMON
    + """
import grpc

def ask_forever():
    with grpc.insecure_channel(f"{{host}}:9000", options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        call = channel.unary_unary(path)
        while not over():
            try:
                call(body, timeout=30, wait_for_ready=True)
                counts["answered"] += 1
            except grpc.RpcError as error:
                counts["lost"] += 1
                failures.append(f"{{error.code()}} {{error.details()}}"[:300])
                time.sleep(0.05)
            time.sleep(0.01)

run(ask_forever)
"""
)


@dataclass
class Told:
    """What a client saw; filled when its block ends."""

    answered: int = 0
    refused: int = 0
    """Answers that are errors."""
    lost: int = 0
    """Requests that were sent and not answered."""
    unconnected: int = 0
    """Connections that came to nothing: no request was on its way."""
    failures: list[object] = field(default_factory=list)


@contextmanager
def load(
    namespace: Namespace,
    image: str,
    program: str,
    name: str,
    model: str,
    path: str,
    body: str,
    headers: dict[str, str] | None = None,
) -> Iterator[Told]:
    """Asks from before the block until after it; `body` is base64."""
    code = program.format(
        host=f"{model}.{namespace.name}.svc",
        path=path,
        body=body,
        headers=headers or {},
        seconds=SECONDS,
        threads=THREADS,
    )
    namespace.apply(python_pod(name, image, code))

    def answered() -> int:
        try:
            return int(namespace.run("exec", name, "--", "cat", "/tmp/answered") or 0)
        except DemoError:
            return 0

    until(lambda: answered() > 50, f"that {name} is answered")
    told = Told()
    yield told
    before = answered()
    until(lambda: answered() > before + 50, f"that {name} is answered after it")
    namespace.run("exec", name, "--", "python", "-c", "open('/tmp/stop', 'w')")
    until(lambda: namespace.get("pod", name)["status"].get("phase") == "Succeeded", f"the end of {name}")
    found = json.loads(namespace.run("logs", name).splitlines()[-1])
    for key, value in found["counts"].items():
        setattr(told, key, value)
    told.failures = found["failures"]
    namespace.run("delete", "pod", name, "--wait=true")
