"""Caches -> one frozen `Observed` per object; the only live reads are by name: claims, lost Jobs, data to be pinned."""

import logging
import time
from collections.abc import Callable, Iterable, Mapping

from lepton_operator.api_errors import NotFound
from lepton_operator.cache import Cache, controller_uid, slim, uid_of
from lepton_operator.cluster import Writer
from lepton_operator.conditions import READY, is_true
from lepton_operator.facts import Json, Key, Observed, Refusal, WarningFact
from lepton_operator.reports import ReportBook
from lepton_operator.resources import CLAIM, DATASET, JOB, LEPTON_RESOURCES, OWNED_RESOURCES, POD
from lepton_operator.warnings_log import WarningLog, parse_time

log = logging.getLogger(__name__)

CLAIM_SECONDS = 2.0
"""How long a claim that was read is believed: a wave of objects shares one store."""

CREATION_SLACK_SECONDS = 1.0
"""creationTimestamp has whole seconds, Events may have fractions."""


def dataset_reference(obj: Json) -> str | None:
    """The LeptonDataset that a LeptonTrainingJob names."""
    return _text(obj, "spec", "dataset", "name")


def training_job_reference(obj: Json) -> str | None:
    """The LeptonTrainingJob that a LeptonModel names."""
    return _text(obj, "spec", "source", "trainingJob", "name")


def warm_start_reference(obj: Json) -> str | None:
    """The LeptonTrainingJob whose version a LeptonTrainingJob begins with."""
    return _text(obj, "spec", "warmStart", "trainingJob", "name")


REFERENCES: Mapping[str, Mapping[str, Callable[[Json], str | None]]] = {
    "LeptonTrainingJob": {"LeptonDataset": dataset_reference, "LeptonTrainingJob": warm_start_reference},
    "LeptonModel": {"LeptonTrainingJob": training_job_reference},
}
"""kind -> kind it refers to -> name of the object referred to."""


def references_of(obj: Json) -> list[str]:
    """kind/name of the objects that one refers to."""
    named = ((kind, name_of(obj)) for kind, name_of in REFERENCES.get(obj["kind"], {}).items())
    return [f"{kind}/{name}" for kind, name in named if name is not None]


class World:
    """All caches."""

    def __init__(self, on_warning: Callable[[tuple[str, str, str]], None]) -> None:
        self.objects = {
            resource.kind: Cache(resource, references_of=references_of) for resource in LEPTON_RESOURCES
        }
        self.children = {resource.kind: Cache(resource) for resource in OWNED_RESOURCES}
        self.pods = Cache(POD)
        self.warnings = WarningLog(on_warning)

    def object(self, key: Key) -> Json | None:
        """The Lepton object of a key."""
        return self.objects[key.kind].get(key.namespace, key.name)

    def dependants(self, key: Key) -> list[Key]:
        """Keys of the objects that name this one."""
        return [
            Key(kind, key.namespace, obj["metadata"]["name"])
            for kind, referred in REFERENCES.items()
            if key.kind in referred
            for obj in self.objects[kind].referring_to(key.namespace, f"{key.kind}/{key.name}")
        ]


class Observer:
    """Reads the caches."""

    def __init__(self, world: World, cluster: Writer, reports: ReportBook) -> None:
        self._world = world
        self._cluster = cluster
        self._reports = reports
        self._claims: dict[tuple[str, str], tuple[float, Json]] = {}

    async def observe(
        self,
        key: Key,
        obj: Json,
        claim_names: Iterable[str],
        refusals: tuple[Refusal, ...],
        jobs_expected: Iterable[str] = (),
    ) -> Observed:
        """What is known about one object now.

        A Job whose labels somebody took away leaves the watch as if it were deleted: one that should be there
        is looked for by name before it counts as gone.
        """
        uid = uid_of(obj)
        children = {
            (kind, child["metadata"]["name"]): child
            for kind, cache in self._world.children.items()
            for child in cache.owned_by(uid)
            if child["metadata"].get("namespace") == key.namespace
        }
        for name in jobs_expected:
            if ("Job", name) not in children and (job := await self._lost_job(key.namespace, name, uid)):
                children["Job", name] = job
        pods = tuple(
            pod for pod in self._world.pods.owned_by(uid) if pod["metadata"].get("namespace") == key.namespace
        )
        claims = {name: await self._claim(key.namespace, name) for name in claim_names}
        return Observed(
            object=obj,
            children=children,
            pods=pods,
            warnings=self._warnings(key.namespace, children, pods, claims),
            reports={uid_of(pod): report for pod in pods if (report := self._reports.get(uid_of(pod)))},
            claims=claims,
            dataset=await self._dataset(key, obj),
            training_job=self._referred(key, obj, "LeptonTrainingJob"),
            refusals=refusals,
        )

    def remember_claim(self, claim: Json) -> None:
        """A claim that was just created or read."""
        meta = claim["metadata"]
        now = time.monotonic()
        self._claims = {at: held for at, held in self._claims.items() if held[0] + CLAIM_SECONDS > now}
        self._claims[meta["namespace"], meta["name"]] = (now, claim)

    async def _lost_job(self, namespace: str, name: str, owner_uid: str) -> Json | None:
        try:
            job = await self._cluster.get(JOB, namespace, name)
        except NotFound:
            return None
        return slim(job, JOB) if controller_uid(job) == owner_uid else None

    async def _claim(self, namespace: str, name: str) -> Json | None:
        held = self._claims.get((namespace, name))
        if held is not None and held[0] + CLAIM_SECONDS > time.monotonic():
            return held[1]
        try:
            claim = await self._cluster.get(CLAIM, namespace, name)
        except NotFound:
            return None
        self.remember_claim(claim)
        return claim

    async def _dataset(self, key: Key, obj: Json) -> Json | None:
        """The dataset of a training job; read anew when its data is about to be pinned for ever.

        The cache of datasets may lag behind the one of training jobs: a dataset edited just before would
        still look prepared.
        """
        held = self._referred(key, obj, "LeptonDataset")
        pinned = "datasetDigest" in (obj.get("status") or {})
        if held is None or pinned or not is_true(held, READY):
            return held
        try:
            live = await self._cluster.get(DATASET, key.namespace, held["metadata"]["name"])
        except NotFound:
            return None
        return slim(live, DATASET)

    def _referred(self, key: Key, obj: Json, kind: str) -> Json | None:
        name_of = REFERENCES.get(key.kind, {}).get(kind)
        name = name_of(obj) if name_of else None
        return self._world.objects[kind].get(key.namespace, name) if name is not None else None

    def _warnings(
        self,
        namespace: str,
        children: Mapping[tuple[str, str], Json],
        pods: tuple[Json, ...],
        claims: Mapping[str, Json | None],
    ) -> tuple[WarningFact, ...]:
        about = self._world.warnings.about
        facts: list[WarningFact] = []
        for (kind, name), child in children.items():
            since = _created(child)
            facts += about(namespace, kind, name, uid_of(child), since)
            if kind == "Deployment":
                facts += about(namespace, "ReplicaSet", name, None, since)
        for pod in pods:
            facts += about(namespace, "Pod", pod["metadata"]["name"], uid_of(pod), _created(pod))
        for name in sorted({*claims, *(name for pod in pods for name in claim_names(pod))}):
            held = claims.get(name)
            facts += about(namespace, "PersistentVolumeClaim", name, uid_of(held) if held else None, 0.0)
        return tuple(sorted(facts, key=lambda fact: -fact.timestamp))


def claim_names(pod: Json) -> list[str]:
    """Claims that a pod mounts."""
    volumes = pod.get("spec", {}).get("volumes") or ()
    claims = (volume.get("persistentVolumeClaim") for volume in volumes)
    return [claim["claimName"] for claim in claims if claim]


def _created(obj: Json) -> float:
    return parse_time(obj["metadata"].get("creationTimestamp")) - CREATION_SLACK_SECONDS


def _text(obj: Json, *path: str) -> str | None:
    """A string deep in an object of unknown shape."""
    at: object = obj
    for part in path:
        if not isinstance(at, Mapping):
            return None
        at = at.get(part)
    return at if isinstance(at, str) else None
