"""Reading the log of requests as a script would."""

import json
from pathlib import Path
from typing import Any


def lines(part: Path) -> list[dict[str, Any]]:
    """The lines of a part, each whole."""
    text = (part / "answers.jsonl").read_text(encoding="utf-8")
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def files(folder: Path) -> list[Path]:
    """All pictures and numbers below a folder."""
    return sorted(path for path in folder.rglob("*/*/*.*") if path.is_file() and path.suffix != ".jsonl")


def whole(folder: Path) -> int:
    """Bytes of all files, but for markers."""
    return sum(path.stat().st_size for path in folder.rglob("[!.]*") if path.is_file())
