"""Names and digests: what each looks like, and the one place that says so."""

import hashlib
import re
from typing import Final, NewType

from fleet_shared.errors import InvalidName
from fleet_shared.limits import DEVICE_ID_CHARS, LABEL_CHARS, NAME_CHARS

DeviceId = NewType("DeviceId", str)
ModelName = NewType("ModelName", str)
VariantName = NewType("VariantName", str)
AssignmentId = NewType("AssignmentId", str)
Digest = NewType("Digest", str)
"""Lower-case hexadecimal sha256, 64 characters."""

CONTROLLER_PREFIX: Final = "ctl-"

_DEVICE_ID = re.compile(rf"[a-z0-9][a-z0-9-]{{0,{DEVICE_ID_CHARS - 1}}}")
_NAME = re.compile(rf"[a-z0-9][a-z0-9._-]{{0,{NAME_CHARS - 1}}}")
_LABEL_KEY = re.compile(rf"[a-z0-9][a-z0-9_./-]{{0,{LABEL_CHARS - 1}}}")
_LABEL_VALUE = re.compile(rf"[A-Za-z0-9][A-Za-z0-9_.-]{{0,{LABEL_CHARS - 1}}}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


def parse_device_id(text: str) -> DeviceId:
    """Return ``text`` as a device id, or raise `InvalidName`."""
    if not _DEVICE_ID.fullmatch(text) or text.startswith(CONTROLLER_PREFIX):
        raise InvalidName(
            f"device id {text!r} is not valid",
            hint="use 1 to 63 of a-z, 0-9 and '-', starting with a letter or digit; "
            f"{CONTROLLER_PREFIX!r} is reserved for the controller",
        )
    return DeviceId(text)


def parse_model_name(text: str) -> ModelName:
    """Return ``text`` as a model name, or raise `InvalidName`."""
    return ModelName(_parse(text, _NAME, "model name", "1 to 64 of a-z, 0-9, '.', '_' and '-'"))


def parse_variant_name(text: str) -> VariantName:
    """Return ``text`` as a variant name, or raise `InvalidName`."""
    return VariantName(_parse(text, _NAME, "variant name", "1 to 64 of a-z, 0-9, '.', '_' and '-'"))


def parse_label(key: str, value: str) -> tuple[str, str]:
    """Return a label ``key=value``, or raise `InvalidName`. ``fact.*`` belongs to devices."""
    _parse(key, _LABEL_KEY, "label key", "1 to 63 of a-z, 0-9, '_', '.', '/' and '-'")
    if key.startswith("fact."):
        raise InvalidName(
            f"label key {key!r} is reserved",
            hint="keys that start with 'fact.' are what a device says of itself; choose another",
        )
    _parse(value, _LABEL_VALUE, f"value of label {key!r}", "1 to 63 letters, digits, '_', '.', '-'")
    return key, value


def parse_digest(text: str) -> Digest:
    """Return ``text`` as a sha256 digest, or raise `InvalidName`."""
    return Digest(_parse(text, _DIGEST, "digest", "64 lower-case hexadecimal digits (sha256)"))


def digest_of(content: bytes) -> Digest:
    """Return the sha256 of ``content``."""
    return Digest(hashlib.sha256(content).hexdigest())


def _parse(text: str, pattern: re.Pattern[str], what: str, expected: str) -> str:
    if not pattern.fullmatch(text):
        raise InvalidName(f"{what} {text!r} is not valid", hint=f"use {expected}")
    return text
