"""How many objects there are in which condition, counted from the caches when the metrics are read."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from lepton_operator.cache import Cache
from lepton_operator.conditions import MAIN_CONDITIONS, conditions_by_type


class Census(Collector):
    """lepton_objects and lepton_object_reasons."""

    def __init__(self, caches: Mapping[str, Cache]) -> None:
        self._caches = caches

    def describe(self) -> Iterable[GaugeMetricFamily]:
        """Names without counting, for the registry."""
        return _families()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Count now: a few microseconds an object."""
        objects, reasons = _families()
        for kind, cache in self._caches.items():
            conditions: Counter[tuple[str, str]] = Counter()
            why: Counter[str] = Counter()
            for obj in cache:
                rows = conditions_by_type(obj)
                conditions.update((name, str(row.get("status"))) for name, row in rows.items())
                main = next((rows[name] for name in MAIN_CONDITIONS if name in rows), None)
                why[str(main.get("reason")) if main else "NotSeen"] += 1
            for (condition, status), count in sorted(conditions.items()):
                objects.add_metric([kind, condition, status], count)
            for reason, count in sorted(why.items()):
                reasons.add_metric([kind, reason], count)
        yield objects
        yield reasons


def _families() -> tuple[GaugeMetricFamily, GaugeMetricFamily]:
    return (
        GaugeMetricFamily("lepton_objects", "Objects by condition.", labels=["kind", "condition", "status"]),
        GaugeMetricFamily(
            "lepton_object_reasons",
            "Objects by the reason of Ready or Succeeded; NotSeen before the first visit.",
            labels=["kind", "reason"],
        ),
    )
