"""What a build says while it runs, and how it ends when it can't go on."""

from __future__ import annotations

import sys
import time


class Failed(Exception):
    """The build can't go on; the text says what a person can do about it."""


def say(text: str) -> None:
    print(f"[{time.strftime('%H:%M:%S')}] images: {text}", file=sys.stderr, flush=True)
