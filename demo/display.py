"""What a person sees: a line per stage, a bar for long steps; plain lines when output isn't a terminal."""

import sys
import time

BAR_WIDTH = 24
QUIET_SECONDS = 15.0
"""How often an unchanged stage says that it is alive when output isn't a terminal."""


class DemoError(Exception):
    """The demo can't go on; the text says why and what to do."""


def bar(done: float, total: float) -> str:
    """[######------] 50%; an empty bar when the total isn't known yet."""
    share = min(1.0, done / total) if total else 0.0
    filled = round(share * BAR_WIDTH)
    return f"[{'#' * filled}{'-' * (BAR_WIDTH - filled)}] {share:4.0%}"


class Display:
    """The lines of the stages that run now; finished stages stay above them."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.live = sys.stdout.isatty()
        self._shown = 0
        self._said: dict[str, tuple[str, float]] = {}

    def say(self, text: str = "") -> None:
        """A line that stays."""
        self._clear()
        print(text, flush=True)

    def title(self, text: str) -> None:
        """A heading with the time since the start."""
        elapsed = int(time.monotonic() - self.started)
        self.say(f"\n== {text}  ({elapsed // 60}:{elapsed % 60:02d} since the start)")

    def update(self, lines: dict[str, str]) -> None:
        """The present lines by stage: redrawn in place, or printed when changed or after a while."""
        if self.live:
            self._clear()
            for stage, text in lines.items():
                print(f"   {stage:<22} {text}"[:160], flush=True)
            self._shown = len(lines)
            return
        now = time.monotonic()
        for stage, text in lines.items():
            said, at = self._said.get(stage, ("", -QUIET_SECONDS))
            if text.split("  ")[0] != said.split("  ")[0] or now - at >= QUIET_SECONDS:
                print(f"   {stage:<22} {text}", flush=True)
                self._said[stage] = (text, now)

    def _clear(self) -> None:
        if self._shown:
            sys.stdout.write(f"\x1b[{self._shown}A\x1b[J")
            self._shown = 0


class Deadline:
    """Ends a wait that takes too long."""

    def __init__(self, seconds: float, what: str) -> None:
        self.end = time.monotonic() + seconds
        self.seconds = seconds
        self.what = what

    def tick(self, why: str = "", pause: float = 0.5) -> None:
        """Pauses between two looks; raises DemoError past the deadline."""
        if time.monotonic() > self.end:
            raise DemoError(
                f"{self.what} did not happen within {self.seconds:.0f} s{': ' + why if why else ''}"
            )
        time.sleep(pause)
