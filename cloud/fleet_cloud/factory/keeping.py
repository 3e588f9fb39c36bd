"""Results of steps, kept by their key: what was computed once is not computed again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from fleet_cloud.factory.cache import Cache
from fleet_cloud.factory.network import Network
from fleet_cloud.factory.network_files import read_network, write_network

FACTS = "facts.json"


@dataclass(frozen=True)
class Result:
    """What a step gave. ``score``: of the network in floats on the validation split, if it has labels.
    ``seconds``: what it took when it was computed."""

    network: Network
    facts: Mapping[str, Any] = field(default_factory=dict)
    score: float | None = None
    seconds: float = 0.0


class Keeper(Protocol):
    def load(self, key: str, /) -> Result | None: ...

    def keep(self, key: str, result: Result, label: str, /) -> Result:
        """Return the result as `load` would return it: so that what follows computes the same, whether it
        goes on at once or another time."""


@dataclass(frozen=True)
class NoKeeper:
    """Keeps nothing."""

    def load(self, _key: str, /) -> Result | None:
        return None

    def keep(self, _key: str, result: Result, _label: str, /) -> Result:
        return _settle(result).result


@dataclass(frozen=True)
class CacheKeeper:
    """Keeps results in the cache on disk; ``warn`` is told what cannot be kept."""

    cache: Cache
    warn: Callable[[str], None] = lambda _why: None

    def load(self, key: str) -> Result | None:
        files = self.cache.load(key)
        if files is None:
            return None
        try:
            return _read(files)
        except Exception as exc:  # noqa: BLE001  whatever Keras makes of a file it does not know
            self.cache.refuse(key, f"{type(exc).__name__}: {exc}")
            return None

    def keep(self, key: str, result: Result, label: str) -> Result:
        settled = _settle(result)
        if settled.trouble:
            self.warn(f"{label}: its result cannot be kept, the next build makes it anew: {settled.trouble}")
        else:
            self.cache.keep(key, settled.files, label)
        return settled.result


@dataclass(frozen=True)
class _Settled:
    """``trouble``: why there are no files."""

    result: Result
    files: Mapping[str, bytes] = field(default_factory=dict)
    trouble: str = ""


def _settle(result: Result) -> _Settled:
    """Write and read a result. One that cannot be goes on as it is: layers of a class of the user's own, say,
    which a file only names."""
    try:
        files = _write(result)
        return _Settled(_read(files), files)
    except Exception as exc:  # noqa: BLE001  whatever Keras cannot write or read
        return _Settled(result, trouble=f"{type(exc).__name__}: {str(exc).partition(chr(10))[0][:200]}")


def _write(result: Result) -> dict[str, bytes]:
    rest = {"facts": result.facts, "score": result.score, "seconds": result.seconds}
    return {**write_network(result.network), FACTS: msgspec.json.encode(rest)}


def _read(files: Mapping[str, bytes]) -> Result:
    rest = msgspec.json.decode(files[FACTS])
    return Result(read_network(files), rest["facts"], rest["score"], rest["seconds"])
