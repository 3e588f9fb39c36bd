"""What each side leaves behind: one ``.tflite`` file and one line of JSON for each method and seed.

What is there is not made again: a run that was stopped goes on where it was.
"""

import json
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

LINES: Final = "made.jsonl"

Key = tuple[str, str, int]
"""Side, method, seed."""

Done = Collection[Key]
"""What need not be made again."""


@dataclass(frozen=True)
class Made:
    """``operations``: multiply-accumulates of one inference, where the side can count them. ``how``: what the
    side was asked for, as a short digest: a method that was changed since is made again."""

    side: str
    method: str
    seed: int
    seconds: float
    operations: int | None = None
    how: str = ""

    @property
    def key(self) -> Key:
        return self.side, self.method, self.seed

    def file(self, folder: Path) -> Path:
        return folder / f"{self.side}-{self.method}-{self.seed}.tflite"


def load_made(folder: Path) -> dict[Key, Made]:
    """Return what is there, by side, method and seed; lines whose file is gone count for nothing."""
    lines = folder / LINES
    if not lines.is_file():
        return {}
    made = [Made(**json.loads(line)) for line in lines.read_text().splitlines()]
    return {one.key: one for one in made if one.file(folder).is_file()}


def keep(folder: Path, made: Made, content: bytes) -> None:
    """Write the file, then its line: a line is never there without its file."""
    made.file(folder).write_bytes(content)
    with (folder / LINES).open("a") as lines:
        lines.write(json.dumps(asdict(made)) + "\n")
