"""Leader election by a Lease: at most one operator writes, whatever happens to the others.

The holder renews the Lease every few seconds and stops writing well before another may take it. Others
judge by their own clocks only: a Lease that hasn't changed for as long as it lasts is free. The clock goes
on while a process is frozen or its machine sleeps, so a thawed leader knows at once that it is none.
"""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Protocol

from lepton_operator import metrics
from lepton_operator.api_errors import AlreadyExists, ApiError, Conflict, NotFound, NotLeader
from lepton_operator.facts import Json
from lepton_operator.logs import fields

log = logging.getLogger(__name__)

LEASE_SECONDS = 10.0
"""How long a Lease that is not renewed keeps others away."""
RENEW_DEADLINE_SECONDS = 7.0
"""No write once the last renewal is older; the rest of LEASE_SECONDS is for what is on its way."""
RETRY_SECONDS = 2.0
CALL_SECONDS = 2.0


class LeaseLost(Exception):
    """Another holds the Lease, or it could not be renewed in time."""


class LeaseClient(Protocol):
    """What is needed of a cluster."""

    async def read_lease(self, namespace: str, name: str, seconds: float) -> Json:
        """The Lease; NotFound when there is none."""

    async def write_lease(self, namespace: str, lease: Json, seconds: float) -> Json:
        """Create it when it has no resourceVersion, else replace exactly that version."""


def boot_clock() -> float:
    """Seconds that also count while the process is stopped or the machine is suspended."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Lease:
    """One Lease, one candidate."""

    def __init__(
        self,
        client: LeaseClient,
        namespace: str,
        name: str,
        identity: str,
        *,
        clock: Callable[[], float] = boot_clock,
    ) -> None:
        self._client = client
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._clock = clock
        self._renewed_at: float | None = None
        self._lease: Json | None = None
        self._changed_at = float("-inf")
        metrics.LEADER.set(0)

    @property
    def is_held(self) -> bool:
        """Whether writing is allowed now."""
        return self._left(RENEW_DEADLINE_SECONDS) > 0

    def seconds_to_write(self) -> float:
        """How long a write may take from now on: it must be over before another can lead.

        Raises:
            NotLeader: the Lease isn't held, or was renewed too long ago.
        """
        if not self.is_held:
            raise NotLeader(f"This operator ({self._identity}) doesn't hold Lease {self._name} any more")
        return self._left(LEASE_SECONDS)

    async def acquire(self) -> None:
        """Wait until the Lease is ours."""
        said = ""
        while not await self._attempt("Taking the Lease failed"):
            holder = str(_spec(self._lease).get("holderIdentity") or "")
            if holder != said:
                said = holder
                log.info("Waiting for the Lease", extra=fields(lease=self._name, holder=holder or None))
            await asyncio.sleep(RETRY_SECONDS * (0.8 + 0.4 * random.random()))
        metrics.LEADER.set(1)
        log.info("Took the Lease", extra=fields(lease=self._name, holder=self._identity))

    async def hold(self) -> None:
        """Renew until that is no longer possible.

        Raises:
            LeaseLost: always, in the end.
        """
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            renewed = await self._attempt("Renewing the Lease failed")
            holder = _spec(self._lease).get("holderIdentity")
            if not renewed and self._lease is not None and holder != self._identity:
                self._drop()
                raise LeaseLost(f"{holder or 'nobody'} holds Lease {self._name} now")
            if not self.is_held:
                self._drop()
                raise LeaseLost(f"Lease {self._name} was not renewed for {RENEW_DEADLINE_SECONDS:.0f} s")

    async def release(self) -> None:
        """Give it back, so that another leads at once; nothing is written afterwards."""
        held = self.is_held
        self._drop()
        if not held:
            return
        try:
            try:
                await self._give_back()
            except Conflict:
                # A renewal was cut short by the stop: its answer is not known.
                await self._read()
                await self._give_back()
        except ApiError as error:
            log.warning("The Lease was not given back", extra=fields(lease=self._name, error=str(error)))
        else:
            log.info("Gave the Lease back", extra=fields(lease=self._name))

    async def _give_back(self) -> None:
        if self._lease is None or _spec(self._lease).get("holderIdentity") != self._identity:
            return
        spec = {**_spec(self._lease), "holderIdentity": "", "leaseDurationSeconds": 1}
        await self._client.write_lease(self._namespace, {**self._lease, "spec": spec}, CALL_SECONDS)

    async def _attempt(self, failure: str) -> bool:
        """Take or renew the Lease once; False when it is another's or the call failed."""
        started = self._clock()
        try:
            async with asyncio.timeout(CALL_SECONDS * 2):
                return await self._try(started)
        except (ApiError, TimeoutError) as error:
            metrics.LEASE_ERRORS.inc()
            text = str(error) or type(error).__name__
            log.warning(failure, extra=fields(lease=self._name, error=text))
            return False

    async def _try(self, started: float) -> bool:
        if self._renewed_at is None or self._lease is None:
            await self._read()
        if not self._may_take(started):
            return False
        try:
            answer = await self._client.write_lease(self._namespace, self._wanted(), CALL_SECONDS)
        except (Conflict, AlreadyExists, NotFound):
            # Somebody wrote it since it was read, or we did and the answer was lost.
            await self._read()
            return False
        self._remember(answer)
        self._renewed_at = started
        return True

    async def _read(self) -> None:
        try:
            self._remember(await self._client.read_lease(self._namespace, self._name, CALL_SECONDS))
        except NotFound:
            if self._lease is not None:
                self._changed_at = self._clock()
            self._lease = None

    def _remember(self, lease: Json) -> None:
        before = self._lease["metadata"].get("resourceVersion") if self._lease is not None else None
        if lease["metadata"].get("resourceVersion") != before:
            self._changed_at = self._clock()
        self._lease = lease

    def _may_take(self, now: float) -> bool:
        spec = _spec(self._lease)
        if self._lease is None:
            # Somebody deleted it: its holder may not know yet.
            return self._renewed_at is not None or now - self._changed_at >= LEASE_SECONDS
        if spec.get("holderIdentity") in (None, "", self._identity):
            return True
        return now - self._changed_at >= float(spec.get("leaseDurationSeconds") or LEASE_SECONDS)

    def _wanted(self) -> Json:
        now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        spec = _spec(self._lease)
        ours = spec.get("holderIdentity") == self._identity
        new: dict[str, Any] = {
            "holderIdentity": self._identity,
            "leaseDurationSeconds": int(LEASE_SECONDS),
            "acquireTime": spec.get("acquireTime") if ours and spec.get("acquireTime") else now,
            "renewTime": now,
            "leaseTransitions": int(spec.get("leaseTransitions") or 0)
            + int(self._lease is not None and not ours),
        }
        held = self._lease["metadata"] if self._lease is not None else {"name": self._name}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {key: value for key, value in held.items() if key != "managedFields"},
            "spec": new,
        }

    def _drop(self) -> None:
        self._renewed_at = None
        metrics.LEADER.set(0)

    def _left(self, seconds: float) -> float:
        if self._renewed_at is None:
            return 0.0
        return self._renewed_at + seconds - self._clock()


class NoLease:
    """Where nobody else can be: an operator that runs alone, by its user's word."""

    is_held = True

    def seconds_to_write(self) -> float:
        """For ever."""
        return float("inf")

    async def acquire(self) -> None:
        """At once."""
        metrics.LEADER.set(1)

    async def hold(self) -> None:
        """For ever."""
        await asyncio.Event().wait()

    async def release(self) -> None:
        """Nothing to give back."""
        metrics.LEADER.set(0)


def _spec(lease: Json | None) -> Json:
    spec: Json = (lease or {}).get("spec") or {}
    return spec
