"""Lines that take turns: who says much waits for itself, and nobody else waits for it.

Bounded in each line and in all. Not for several threads: its owner has the lock.
"""

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Turns(Generic[K, V]):
    def __init__(self, line_max: int, waiting_max: int) -> None:
        self._line_max, self._waiting_max, self._waiting = line_max, waiting_max, 0
        self._lines: OrderedDict[K, deque[V]] = OrderedDict()

    def __len__(self) -> int:
        return self._waiting

    def line(self, key: K) -> Sequence[V]:
        return self._lines.get(key, ())

    def add(self, key: K, item: V) -> bool:
        """Put an item at the end of its line; tell whether there was room."""
        if self._waiting >= self._waiting_max or len(self.line(key)) >= self._line_max:
            return False
        self._lines.setdefault(key, deque()).append(item)
        self._waiting += 1
        return True

    def take(self) -> tuple[K, V]:
        """Return the first of the line whose turn it is; raise `KeyError` when nothing waits."""
        key, line = self._lines.popitem(last=False)
        item = line.popleft()
        self._waiting -= 1
        if line:
            self._lines[key] = line
        return key, item

    def drop_first(self, key: K) -> None:
        """Let the first of a line go, if there is one; its turn stays as it is."""
        line = self._lines.get(key)
        if line is None:
            return
        line.popleft()
        self._waiting -= 1
        if not line:
            del self._lines[key]
