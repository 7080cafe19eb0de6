"""Where a version comes from, and the manifest that makes it again."""

import json
import re
from collections.abc import Mapping, Sequence

from lepton_workloads.contract.artifact import Lineage
from lepton_workloads.contract.data import DatasetManifest
from lepton_workloads.contract.tasks import TrainTask
from lepton_workloads.train.report_page.markup import Markup, element, join, scrolling, table
from lepton_workloads.train.report_page.wording import count, label

MAX_NAME = 40
_PLAIN = re.compile("^[A-Za-z_][A-Za-z0-9_.-]*$")
_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})
"""Plain words that some readers of YAML take for something else."""


def lineage_tables(lineage: Lineage, manifest: DatasetManifest) -> Markup:
    """What was trained on what, where and when."""
    facts = [
        ("Job", f"{lineage.job}, attempt {lineage.attempt}"),
        ("uid of the job", lineage.job_uid),
        ("Dataset", lineage.dataset),
        ("Digest of the data", lineage.dataset_key),
        ("Decoder of the pictures", manifest.decoder),
        ("Trainer image", lineage.image),
        ("Training code", f"Lepton {lineage.code_version}"),
        ("Libraries", f"TensorFlow {lineage.tensorflow}, Keras {lineage.keras}, Python {lineage.python}"),
        ("Seed", str(lineage.seed)),
        ("Workers, threads of each", f"{lineage.workers}, {lineage.threads}"),
        ("CPU", lineage.cpu),
        ("Began with the weights of", lineage.warm_start or "no earlier version"),
        ("Went on from", lineage.resumed_from or "no checkpoint: trained in one go"),
        ("Started, finished", f"{lineage.started}, {lineage.finished}"),
        ("Digest of the weights", lineage.weights_digest),
    ]
    splits = [
        (str(name), count(split.samples), count(sum(1 for samples in split.per_class if samples)))
        for name, split in manifest.splits.items()
    ]
    rows = [(name, label(value, 600)) for name, value in facts]
    return join(
        [
            table("Lineage", ("What", "Value"), rows, class_="facts"),
            table("Pictures of the dataset", ("Split", "Pictures", "Classes in it"), splits),
            element(
                "p", f"{count(manifest.invalid_files)} source files could not be used and were set aside."
            ),
        ]
    )


def run_again(task: TrainTask, lineage: Lineage) -> Markup:
    """What to do, and the manifest."""
    steps = (
        "Prepare the same data: the LeptonDataset must show the digest below in its status.",
        "Set the operator's trainer image to the one below.",
        "Use machines with the same CPU model: it and the number of threads decide the last bits of the weights.",
        "Apply this manifest. The weights' digest is the same then.",
    )
    code = element("pre", element("code", manifest_text(task, lineage)))
    return join(
        [
            element("ol", (element("li", step) for step in steps)),
            table(
                "What must be the same",
                ("What", "Value"),
                [
                    ("Digest of the data", label(lineage.dataset_key)),
                    ("Trainer image", label(lineage.image, 600)),
                    ("CPU", label(lineage.cpu, 200)),
                ],
                class_="facts",
            ),
            scrolling("Manifest that makes this version again", code),
        ]
    )


def manifest_text(task: TrainTask, lineage: Lineage) -> str:
    """The LeptonTrainingJob as YAML, under a new name, since jobs never run twice."""
    namespace, _, name = task.job.partition("/")
    evaluation = {
        "topK": task.top_k,
        "crossValidation": task.cross_validation and task.cross_validation.to_json_dict(),
        "gate": task.gate and task.gate.to_json_dict(),
    }
    spec = {
        "dataset": {"name": task.dataset_name},
        "network": task.network.to_json_dict(),
        "training": task.training.to_json_dict(),
        "evaluation": evaluation,
        "checkpoint": task.checkpoint.to_json_dict(),
        "warmStart": task.warm_start
        and {"version": task.warm_start.digest, "frozenLayers": task.warm_start.frozen_layers or None},
        "workers": task.workers,
        # Threads are the requested CPUs, rounded up; without resources it is one.
        "resources": {"requests": {"cpu": str(lineage.threads), "memory": "1Gi"}}
        if lineage.threads > 1
        else None,
    }
    again = f"{name[: MAX_NAME - len('-again')].rstrip('-')}-again"
    return "\n".join(
        _yaml(
            {
                "apiVersion": "lepton.ai/v1alpha1",
                "kind": "LeptonTrainingJob",
                "metadata": {"name": again, "namespace": namespace},
                "spec": spec,
            }
        )
    )


def _yaml(values: Mapping[str, object], depth: int = 0) -> list[str]:
    """Block style for mappings, flow style for lists; None is left out."""
    lines: list[str] = []
    for key, value in values.items():
        start = f"{'  ' * depth}{_scalar(key)}:"
        if isinstance(value, Mapping):
            inner = _yaml(value, depth + 1)
            lines += [start, *inner] if inner else [f"{start} {{}}"]
        elif isinstance(value, Sequence) and not isinstance(value, str):
            lines.append(f"{start} [{', '.join(_scalar(part) for part in value)}]")
        elif value is not None:
            lines.append(f"{start} {_scalar(value)}")
    return lines


def _scalar(value: object) -> str:
    """Plain where every reader agrees, else in double quotes, whose escapes are those of JSON."""
    if not isinstance(value, str):
        text = json.dumps(value)
        # YAML 1.1 takes 1e-05 for a text.
        return re.sub("^(-?[0-9]+)e", r"\1.0e", text)
    if _PLAIN.match(value) and value.lower() not in _WORDS:
        return value
    return '"' + "".join(_escaped(character) for character in value) + '"'


def _escaped(character: str) -> str:
    if character in '"\\':
        return "\\" + character
    code = ord(character)
    if character.isprintable():
        return character
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
