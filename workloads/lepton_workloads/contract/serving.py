"""How a model is served: parts of LeptonModel's spec that the server is told as they are."""

from typing import Annotated, Literal

from pydantic import Field

from lepton_workloads.contract.base import CONTROL, SUBDOMAIN, Record

EngineName = Literal["litert", "tensorflow"]
Precision = Literal["float32", "int8"]

SOURCE_HEADER = "lepton-source"
"""Which camera or machine the pictures are from: a header in HTTP and gRPC, the parameter `source` in v2."""

Label = Annotated[str, Field(min_length=1, max_length=253)]

LABELS_ROOM = 1000
"""Characters of all labels of an alarm: the whole task must fit into one variable of 128 KiB."""


DROP_DIGITS = 6
"""A drop is compared with so many: 0.97 - 0.965 is a little more than 0.005."""


def accuracy_drop(full: float, small: float) -> float:
    """How much accuracy 8 bits cost, as operator and `fetch` hold it against maxAccuracyDrop."""
    return round(full - small, DROP_DIGITS)


def is_too_much(drop: float, allowed: float) -> bool:
    """Whether a drop is above maxAccuracyDrop; never so for the very number that a message told."""
    return not drop <= round(allowed, DROP_DIGITS)


class Sink(Record):
    """Where CloudEvents are sent by HTTP POST."""

    url: Annotated[
        str,
        Field(
            max_length=1024,
            description="http(s)://HOST/PATH that takes CloudEvents 1.0 in HTTP's binary mode.",
        ),
    ]

    cel_rules = (
        (
            # Printable ASCII: what else an address holds is written as %XX.
            "self.url.matches('^https?://[^/ @?#]+(/.*)?$') && self.url.matches('^[!-~]+$') && isURL(self.url)",
            "sink.url must be http://HOST/PATH or https://HOST/PATH, without name and password, and without spaces "
            "and letters that are not ASCII: write for example http://alarms.example/lepton",
        ),
    )


class Alarm(Record):
    """One rule: what is seen, how surely and how often, and who is told."""

    name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=63,
            description="Name of the rule, in events and metrics; letters a-z, digits and '-'.",
        ),
    ]
    labels: Annotated[
        list[Label],
        Field(
            min_length=1,
            max_length=64,
            description="Classes that raise it, by their labels; their probabilities are added.",
        ),
    ]
    threshold: Annotated[float, Field(gt=0, le=1, description="From which probability on it counts.")] = 0.9
    count: Annotated[
        int, Field(ge=1, le=1000, description="So many predictions within the window raise it.")
    ] = 1
    window_seconds: Annotated[int, Field(ge=1, le=86_400, description="Length of the window.")] = 60
    cooldown_seconds: Annotated[
        int,
        Field(ge=0, le=86_400, description="How long a source that raised it raises no more, in each pod."),
    ] = 300
    sink: Annotated[Sink, Field(description="Who is told.")]

    cel_rules = (
        (
            "self.name.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')",
            "an alarm's name holds a-z, 0-9 and '-', with a letter or digit at both ends: write for example "
            "seven-seen",
        ),
        (
            f"self.labels.all(l, !l.matches('{CONTROL}'))",
            "a label of an alarm must hold no control characters, such as line breaks: write the label of a class",
        ),
        (
            f"self.labels.map(l, size(l)).sum() <= {LABELS_ROOM}",
            f"the labels of an alarm may have {LABELS_ROOM} characters in all: make two alarms of it",
        ),
    )


class Drift(Record):
    """Whether the pictures and answers of now look like those of the training's validation split."""

    threshold: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="Population stability index that counts as drift, in three windows in a row; it is over "
            "when all are below half of it.",
        ),
    ] = 0.2
    window: Annotated[
        int,
        Field(
            ge=500,
            le=100_000,
            description="Newest predictions of a pod that are compared; fewer say nothing.",
        ),
    ] = 1000


class RequestLog(Record):
    """Pictures and answers, kept on a claim for later training. Off unless it is set: it holds what users send."""

    claim_name: Annotated[
        str,
        Field(
            min_length=1,
            max_length=253,
            description="PersistentVolumeClaim in the same namespace, of a class with ReadWriteMany for more than one "
            "pod.",
        ),
    ]
    path: Annotated[
        str,
        Field(
            max_length=1024,
            description="Folder on the claim, relative to its root; each pod writes into its own below it.",
        ),
    ] = "requests"
    sample: Annotated[float, Field(gt=0, le=1, description="Share of the requests that is kept.")] = 1.0
    retention_days: Annotated[
        int, Field(ge=1, le=3650, description="Days after which a pod removes its files.")
    ] = 30
    max_megabytes: Annotated[
        int, Field(ge=1, le=1_000_000, description="Room of a pod's files; the oldest go first.")
    ] = 1024

    cel_rules = (
        (
            "!self.path.startsWith('/') && !self.path.split('/').exists(p, p == '..')",
            "requestLog.path is relative to the claim's root and must not hold '..': write for example requests",
        ),
        (
            f"!self.path.matches('{CONTROL}')",
            "requestLog.path must hold no control characters, such as line breaks: write it on one line",
        ),
        (
            f"self.claimName.matches('{SUBDOMAIN}')",
            "no claim has such a requestLog.claimName: write letters a-z, digits, '-' and '.', for example photos",
        ),
    )
