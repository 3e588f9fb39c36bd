"""Version numbers of models: semantic, without pre-release parts."""

import re
from typing import NamedTuple

from fleet_shared.errors import InvalidName
from fleet_shared.names import ModelName, parse_model_name

_VERSION = re.compile(r"(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})\.(0|[1-9]\d{0,8})")


class Version(NamedTuple):
    """``major.minor.patch``; compares and sorts as numbers."""

    major: int
    minor: int
    patch: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.patch}"

    @classmethod
    def parse(cls, text: str) -> "Version":
        """Return the version written as ``1.4.0``, or raise `InvalidName`."""
        match = _VERSION.fullmatch(text)
        if match is None:
            raise InvalidName(
                f"version {text!r} is not valid",
                hint="use three numbers without leading zeros: 1.4.0",
            )
        return cls(*(int(part) for part in match.groups()))

    def next_minor(self) -> "Version":
        return Version(self.major, self.minor + 1, 0)


FIRST = Version(1, 0, 0)


class ModelRef(NamedTuple):
    """What an operator writes for a model: ``digits`` or ``digits:1.4.0``."""

    model: ModelName
    version: Version | None

    def __str__(self) -> str:
        return self.model if self.version is None else f"{self.model}:{self.version}"

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        name, colon, version = text.partition(":")
        return cls(parse_model_name(name), Version.parse(version) if colon else None)
