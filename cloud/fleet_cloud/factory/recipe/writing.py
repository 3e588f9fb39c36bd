"""Passes as people write them: what they say, without what is the default anyway. Imports no TensorFlow."""

from collections.abc import Sequence
from typing import Any

import msgspec
import yaml

from fleet_cloud.factory.recipe.passes import Settings, name_pass


def write_passes(passes: Sequence[Settings]) -> list[dict[str, Any]]:
    """Return what a recipe says of them; read again, it gives the same passes."""
    return [{"pass": name_pass(settings), **_strip(settings)} for settings in passes]


def write_variant(name: str, target: str, passes: Sequence[dict[str, Any]]) -> str:
    """Return one entry of ``variants`` as YAML, which ends with a line break."""
    lines = [f"- name: {name}"]
    lines += [f"  target: {target}"] if target != "litert" else []
    lines += ["  passes:", *(f"    - {_flow(one)}" for one in passes)]
    return "\n".join(lines) + "\n"


def _flow(document: dict[str, Any]) -> str:
    written: str = yaml.safe_dump(document, default_flow_style=True, sort_keys=False, width=10_000)
    return written.strip()


def _strip(settings: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that are not what they would be if nothing were said."""
    said = {}
    for field in msgspec.structs.fields(settings):
        value = getattr(settings, field.name)
        if value != field.default:
            inner = isinstance(value, msgspec.Struct)
            said[field.encode_name] = _strip(value) if inner else msgspec.to_builtins(value)
    return said
