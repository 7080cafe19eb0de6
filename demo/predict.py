"""Held-out pictures through the model's Service."""

import json
import re
import subprocess
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from demo.display import DemoError, Display
from demo.kubectl import Kubectl, environment
from demo.setup import NAMESPACE, VENV_PYTHON, output

COUNT = 10
LEAST_RIGHT = 8
"""Of ten held-out digits; the network gets about 97 % of the test split right."""


@contextmanager
def forwarded(kubectl: Kubectl, service: str, namespace: str, port: int = 80) -> Iterator[str]:
    """`kubectl port-forward` of that port of the Service to a free one here; gives the address."""
    process = subprocess.Popen(
        kubectl.arguments(
            "port-forward", "-n", namespace, f"service/{service}", f":{port}", "--address", "127.0.0.1"
        ),
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    timer = threading.Timer(30, process.kill)
    timer.start()
    try:
        assert process.stdout is not None
        assert process.stderr is not None
        line = process.stdout.readline()
        timer.cancel()
        found = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not found:
            process.kill()
            raise DemoError(f"kubectl port-forward failed: {process.stderr.read().strip()}")
        yield f"http://127.0.0.1:{found[1]}"
    finally:
        timer.cancel()
        process.terminate()
        process.wait()


def held_out(folder: Path) -> list[Path]:
    """Picture files of the test split; their names begin with the true label."""
    python = str(VENV_PYTHON)
    archive = output([python, "images/build.py", "builtin"])[-1]
    return [Path(line) for line in output([python, "-m", "demo.pictures", str(folder), archive, str(COUNT)])]


def classify(address: str, picture: Path) -> dict[str, Any]:
    """The server's answer for one picture file."""
    kind = "image/jpeg" if picture.suffix == ".jpg" else "image/png"
    request = urllib.request.Request(
        f"{address}/classify?top=2", data=picture.read_bytes(), headers={"Content-Type": kind}
    )
    # No proxy of the environment may stand between us and the forwarded port.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=30) as answer:
            return dict(json.load(answer))
    except urllib.error.HTTPError as error:
        raise DemoError(
            f"{picture.name}: HTTP {error.code}: {error.read().decode(errors='replace')}"
        ) from error
    except (urllib.error.URLError, TimeoutError) as error:
        raise DemoError(f"{picture.name}: no answer: {error}") from error


def predict(display: Display, kubectl: Kubectl) -> None:
    """Sends the pictures, prints the answers; too many wrong ones end the demo."""
    display.title(f"Sending {COUNT} held-out pictures through the Service")
    right = 0
    with tempfile.TemporaryDirectory() as folder, forwarded(kubectl, "digits", NAMESPACE) as address:
        display.say(f"   {'picture':<14} {'true':>4} {'predicted':>10} {'probability':>12}")
        for picture in held_out(Path(folder)):
            truth = picture.name.split("_")[0]
            best = classify(address, picture)["predictions"][0]
            same = best["label"] == truth
            right += same
            mark = "" if same else "   wrong"
            display.say(
                f"   {picture.name:<14} {truth:>4} {best['label']:>10} {best['probability']:>12.4f}{mark}"
            )
    display.say(f"   {right} of {COUNT} are right")
    if right < LEAST_RIGHT:
        raise DemoError(f"only {right} of {COUNT} held-out pictures were classified right")


def show_results(display: Display, kubectl: Kubectl) -> None:
    """Test accuracy and the table of the three objects."""
    job = kubectl.json("get", "ltj", "digits-cnn", "-n", NAMESPACE)
    metrics = job["status"]["metrics"]
    display.title("Result")
    display.say(f"   test accuracy {metrics['testAccuracy']:.4f}, trained in {metrics['seconds']:.0f} s\n")
    sys.stdout.write(kubectl.run("get", "lds,ltj,lm", "-n", NAMESPACE))
