"""All that is wrong with a document, each thing with its key and what may help.

`msgspec` stops at the first; here a document that does not fit is taken apart, part by part.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any, Final, get_args, get_origin

import msgspec

INSTEAD: Final[Mapping[str, str]] = MappingProxyType(
    {"quantize": "write passes: [{pass: int8}] in its place"}
)
"""Keys that recipes had once."""

_ENUM: Final = re.compile(r"Invalid (?:enum )?value '([^']*)'")


@dataclass(frozen=True)
class Problem:
    """``key``: where, ``variants[1].passes[0].sparsity``; empty for the whole document."""

    key: str
    message: str
    hint: str = ""
    code: str = "recipe.invalid"

    def __str__(self) -> str:
        where = f" - at `{self.key}`" if self.key else ""
        return f"{self.message}{where}"


def find_problems(document: Any, kind: Any, key: str = "") -> list[Problem]:
    """Return what keeps ``document`` from being a ``kind``: a type that msgspec knows."""
    try:
        msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        inner = list(_look_inside(document, kind, key))
        return inner or [_describe(str(exc), document, kind, key)]
    return []


def _look_inside(document: Any, kind: Any, key: str) -> Iterator[Problem]:
    """Yield the problems of the parts; nothing when the trouble is not in a part."""
    kind = _bare(kind)
    if isinstance(document, dict) and (struct := _struct_of(document, kind)) is not None:
        yield from _look_inside_struct(document, struct, key)
    elif isinstance(document, dict) and (tags := _tags(kind)):
        field = next(iter(tags.values()))
        if field not in document:
            yield Problem(key, f"Object missing required field `{field}`", f"known are {', '.join(tags)}")
    elif isinstance(document, dict) and get_origin(kind) is dict:
        for name, value in document.items():
            yield from find_problems(value, get_args(kind)[1], _join(key, name))
    elif isinstance(document, list) and get_origin(kind) in {tuple, list}:
        for number, value in enumerate(document):
            yield from find_problems(value, get_args(kind)[0], f"{key}[{number}]")


def _look_inside_struct(
    document: dict[Any, Any], struct: type[msgspec.Struct], key: str
) -> Iterator[Problem]:
    fields = {field.encode_name: field for field in msgspec.structs.fields(struct)}
    tag = struct.__struct_config__.tag_field
    known = [*([tag] if tag else []), *fields]
    for name, value in document.items():
        if name in fields:
            yield from find_problems(value, fields[name].type, _join(key, name))
        elif name != tag:
            yield Problem(key, f"Object contains unknown field `{name}`", suggest_key(str(name), known))
    for name, field in fields.items():
        if field.required and name not in document:
            yield Problem(key, f"Object missing required field `{name}`", f"the keys are {', '.join(known)}")


def suggest_key(name: str, known: Sequence[str]) -> str:
    if name in INSTEAD:
        return INSTEAD[name]
    close = get_close_matches(name, known, 1)
    return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(known)}"


def _describe(message: str, document: Any, kind: Any, key: str) -> Problem:
    """Return the problem of a part that is wrong as a whole."""
    message, _, place = message.partition(" - at `$")
    key += place.rstrip("`")
    if key.endswith("learning_rate") and isinstance(document, str):
        return Problem(key, message, "YAML reads 2e-3 as text: write 0.002 or 2.0e-3")
    if (wrong := _ENUM.search(message)) is not None:
        choices = _choices(kind)
        close = get_close_matches(wrong.group(1), choices, 1)
        return Problem(
            key, message, f"did you mean {close[0]!r}?" if close else f"expected {' or '.join(choices)}"
        )
    return Problem(key, message, _suggest_form(document, _structs(_bare(kind))))


def _suggest_form(document: Any, structs: Sequence[type[msgspec.Struct]]) -> str:
    if len(structs) == 1:
        return f"the keys are {', '.join(structs[0].__struct_encode_fields__)}; docs/recipes.md explains them"
    tags = {str(one.__struct_config__.tag): one.__struct_config__.tag_field for one in structs}
    if isinstance(document, str) and document in tags:
        return f"write {{{tags[document]}: {document}}}"
    return f"known are {', '.join(tags)}" if tags else "docs/recipes.md explains the keys"


def _tags(kind: Any) -> dict[str, str]:
    """Return the tags by which several structs are told apart, and the key of each."""
    configs = [one.__struct_config__ for one in _structs(kind)]
    return {str(config.tag): config.tag_field for config in configs if config.tag_field is not None}


def _choices(kind: Any) -> list[str]:
    """Return the words that may stand there: of a Literal, or the tags of structs."""
    kind = _bare(kind)
    tags = [str(struct.__struct_config__.tag) for struct in _structs(kind)]
    words = [
        str(word)
        for one in (get_args(kind) or ())
        for word in (get_args(one) or (one,))
        if isinstance(word, str)
    ]
    return tags or words


def _struct_of(document: dict[Any, Any], kind: Any) -> type[msgspec.Struct] | None:
    """Return the struct that a mapping is meant to be: the one whose tag it has, of several."""
    structs = _structs(kind)
    tagged = [
        one
        for one in structs
        if (config := one.__struct_config__).tag_field is None or document.get(config.tag_field) == config.tag
    ]
    return tagged[0] if len(tagged) == 1 else None


def _structs(kind: Any) -> list[type[msgspec.Struct]]:
    options = get_args(kind) if _is_union(kind) else (kind,)
    return [one for one in options if isinstance(one, type) and issubclass(one, msgspec.Struct)]


def _is_union(kind: Any) -> bool:
    return kind is not None and type(kind).__name__ in {"UnionType", "_UnionGenericAlias", "Union"}


def _bare(kind: Any) -> Any:
    """Return a type without its bounds."""
    return _bare(get_args(kind)[0]) if hasattr(kind, "__metadata__") else kind


def _join(key: str, name: Any) -> str:
    return f"{key}.{name}" if key else str(name)
