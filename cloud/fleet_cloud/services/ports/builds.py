"""Jobs for shared build workers."""

from collections.abc import Sequence
from typing import Protocol

from fleet_cloud.domain.builds import BuildJob


class Builds(Protocol):
    def add(self, job: BuildJob) -> None: ...

    def get(self, job: str) -> BuildJob | None: ...

    def lock(self, job: str) -> BuildJob | None:
        """As `get`; nobody else changes it until the end of the transaction."""

    def lock_open(self) -> Sequence[BuildJob]:
        """All that are queued or running, oldest first, locked."""

    def put(self, job: BuildJob) -> None:
        """Change one that is there."""

    def page(self, limit: int) -> Sequence[BuildJob]:
        """Newest first."""

    def add_events(self, job: str, events: Sequence[str]) -> None:
        """Append what a build said: one JSON document each. The job is locked."""

    def events(self, job: str, after: int, limit: int) -> Sequence[tuple[int, str]]:
        """Return numbers above ``after`` and what was said, in order."""

    def count_events(self, job: str) -> int: ...
