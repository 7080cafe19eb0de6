"""Which parts of the log go: what is too old, and the oldest where there is too much. Pure."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple


class Part(NamedTuple):
    """A folder of an hour or of a piece of one; sorted by age, the oldest first."""

    day: str
    """2026-11-30"""
    name: str
    """Hour and number: 06-000."""


def is_day(name: str) -> bool:
    """Whether a folder's name is a day as it is written here."""
    try:
        return date.fromisoformat(name).isoformat() == name
    except ValueError:
        return False


def is_part(name: str) -> bool:
    """Whether a folder's name is that of a part."""
    hour, _, number = name.partition("-")
    return name.isascii() and len(hour) == 2 and hour.isdigit() and len(number) >= 3 and number.isdigit()


def is_old(day: str, today: date, days: int) -> bool:
    """Whether a day is over for more than `days` days."""
    return date.fromisoformat(day) < today - timedelta(days=days)


def too_much(parts: Mapping[Part, int], room: int, wanted: int) -> list[Part]:
    """The oldest parts, whose removal leaves `wanted` bytes free of `room`; `parts` maps to bytes."""
    used = sum(parts.values())
    gone: list[Part] = []
    for part in sorted(parts, key=age):
        if used + wanted <= room:
            break
        gone.append(part)
        used -= parts[part]
    return gone


def age(part: Part) -> tuple[str, str, int]:
    """Sorts parts, the oldest first; numbers of an hour may have more than three digits."""
    hour, _, number = part.name.partition("-")
    return part.day, hour, int(number)
