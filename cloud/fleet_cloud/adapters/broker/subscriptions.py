"""Who hears what. A subscription belongs to a connection, not to a name: what an older connection of the same
client leaves behind cannot take away those of the newer one, as in amqtt.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

from fleet_cloud.domain.topic_rules import matches

C = TypeVar("C")


class Subscriptions(Generic[C]):
    """Filters of each connection. Most filters are plain topics, which are looked up."""

    def __init__(self) -> None:
        self._plain: dict[str, dict[C, int]] = {}
        self._wild: dict[str, dict[C, int]] = {}
        self._filters: dict[C, set[str]] = {}

    def count(self, connection: C) -> int:
        return len(self._filters.get(connection, ()))

    def holds(self, connection: C, asked: str) -> bool:
        return asked in self._filters.get(connection, ())

    def add(self, connection: C, asked: str, qos: int) -> None:
        """Subscribe, or subscribe anew with another quality of service."""
        self._table(asked).setdefault(asked, {})[connection] = qos
        self._filters.setdefault(connection, set()).add(asked)

    def remove(self, connection: C, asked: str) -> None:
        table = self._table(asked)
        if (held := table.get(asked)) is not None:
            held.pop(connection, None)
            if not held:
                del table[asked]
        self._filters.get(connection, set()).discard(asked)

    def remove_all(self, connection: C) -> None:
        for asked in tuple(self._filters.get(connection, ())):
            self.remove(connection, asked)
        self._filters.pop(connection, None)

    def find(self, topic: str) -> dict[C, int]:
        """Return who hears ``topic``, each once, with the highest quality of service that it asked for."""
        found: dict[C, int] = {}
        for held in self._matching(topic):
            for connection, qos in held.items():
                found[connection] = max(qos, found.get(connection, 0))
        return found

    def _matching(self, topic: str) -> Iterator[dict[C, int]]:
        if topic in self._plain:
            yield self._plain[topic]
        for asked, held in self._wild.items():
            if matches(asked, topic):
                yield held

    def _table(self, asked: str) -> dict[str, dict[C, int]]:
        return self._wild if "+" in asked or "#" in asked else self._plain
