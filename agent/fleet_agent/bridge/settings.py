"""``bridge.toml``: every default and unit of the bridge in one place."""

import re
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from itertools import combinations
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import msgspec
from msgspec import Meta

from fleet_agent.errors import SettingsError

CODE: Final = "bridge.settings"
TOPIC: Final = "{topic}"
"""In ``output`` and ``errors``: the topic of the message that is answered."""

Text = Annotated[str, Meta(min_length=1)]
Port = Annotated[int, Meta(ge=1, le=65_535)]


class _Part(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    pass


class BrokerSettings(_Part, frozen=True, kw_only=True):
    """The local broker. TLS if ``tls`` or ``ca_file`` is given; ``certificate_file`` and ``key_file``
    prove the client. ``session_s``: for how long the broker keeps what arrives while the bridge is
    away."""

    host: Text = "127.0.0.1"
    port: Port = 1883
    protocol: Literal["5", "3.1.1"] = "5"
    client_id: Text = "fleet-bridge"
    username: str = ""
    password_file: str = ""
    tls: bool = False
    ca_file: str = ""
    certificate_file: str = ""
    key_file: str = ""
    keepalive_s: Annotated[int, Meta(ge=5, le=3_600)] = 30
    session_s: Annotated[int, Meta(ge=0, le=30 * 86_400)] = 3_600


class Route(_Part, frozen=True, kw_only=True):
    """What arrives on ``input`` (a filter) goes to ``model``, its answer to ``output``.

    ``format``: ``json`` (numbers), ``tensor`` (the bytes of the model's own input) or ``image`` (an
    encoded one). ``preprocess``: numbers are samples, which the worker scales and quantizes; else
    they are the model's own input. ``outputs``: whether answers carry all numbers, or the class only.
    """

    input: Text
    output: Text
    errors: Text
    model: Text
    format: Literal["json", "tensor", "image"] = "json"
    preprocess: bool = True
    outputs: bool = True


class BridgeSettings(_Part, frozen=True, kw_only=True):
    """``worker``: the Unix socket of the agent, or ``http://127.0.0.1:8080``; empty: the socket in the
    agent's state folder. ``queue_messages``: how many wait at most; beyond that the oldest are dropped
    and counted. ``tries_max``: how often a message may break the worker's connection, or take it longer
    than ``worker_timeout_s``."""

    route: Annotated[tuple[Route, ...], Meta(min_length=1)]
    broker: BrokerSettings = BrokerSettings()
    worker: str = ""
    worker_timeout_s: Annotated[float, Meta(ge=0.1, le=600)] = 10.0
    tries_max: Annotated[int, Meta(ge=1, le=100)] = 2
    queue_messages: Annotated[int, Meta(ge=1, le=10_000)] = 16
    payload_bytes_max: Annotated[int, Meta(ge=1, le=10 * 1024 * 1024)] = 4 * 1024 * 1024
    status_topic: Text = "fleet/bridge/status"
    status_interval_s: Annotated[float, Meta(ge=0.1, le=3_600)] = 10.0


_PARTS: Final[dict[str, type[_Part]]] = {"broker": BrokerSettings, "route": Route}


def load_bridge_settings(path: Path) -> BridgeSettings:
    """Read ``bridge.toml``; raise `SettingsError` (``bridge.settings``) naming the key and what was
    expected."""
    try:
        settings = msgspec.convert(_load_toml(path), BridgeSettings)
    except msgspec.ValidationError as exc:
        raise SettingsError(f"{path}: {exc}", hint=_suggest(str(exc)), code=CODE) from exc
    if wrong := find_wrong(settings):
        raise SettingsError(f"{path}: {wrong[0]}", hint=wrong[1], code=CODE)
    return settings


Wrong = tuple[str, str]


def find_wrong(settings: BridgeSettings) -> Wrong | None:
    """Return what is wrong, and what to do, beyond types and ranges."""
    return (
        _find_wrong_inputs([route.input for route in settings.route])
        or _find_wrong_outputs(settings)
        or _find_wrong_credentials(settings.broker)
    )


def _find_wrong_inputs(inputs: Sequence[str]) -> Wrong | None:
    for one in inputs:
        if not is_filter(one):
            return f"input = {one!r} is no topic filter", "for example sensors/+/vector"
    for one, other in combinations(inputs, 2):
        if overlap(one, other):
            return (
                f"the inputs {one!r} and {other!r} read the same topics",
                "each topic belongs to one route: a broker may send a message once for each input",
            )
    return None


def _find_wrong_outputs(settings: BridgeSettings) -> Wrong | None:
    published = [(settings.status_topic, "")]
    for route in settings.route:
        published += [(route.output, route.input), (route.errors, route.input)]
    for topic, source in published:
        if not _can_be_published(topic):
            return f"{topic!r} cannot be published to", "a topic has no + and no #"
        for route in settings.route:
            if overlap(route.input, _fill_in(topic, source)):
                return (
                    f"{topic!r} is read again by the input {route.input!r}",
                    "answer on other topics than are read: it would go round for ever",
                )
    return None


def _find_wrong_credentials(broker: BrokerSettings) -> Wrong | None:
    if bool(broker.certificate_file) != bool(broker.key_file):
        return "certificate_file and key_file belong together", "give both, or none"
    if broker.password_file and not broker.username:
        return "password_file without username", "give the username as well"
    return None


def is_filter(text: str) -> bool:
    levels = text.split("/")
    for number, level in enumerate(levels):
        if ("+" in level or "#" in level) and level not in {"+", "#"}:
            return False
        if level == "#" and number != len(levels) - 1:
            return False
    return "\0" not in text


def matches(topic_filter: str, topic: str) -> bool:
    """Whether ``topic`` is one of those that ``topic_filter`` names (MQTT 5, section 4.7); of a shared
    subscription (section 4.8.2) the group does not matter."""
    wanted, given = _get_levels(topic_filter), topic.split("/")
    if given[0].startswith("$") and wanted[0] in {"+", "#"}:
        return False
    for number, level in enumerate(wanted):
        if level == "#":
            return True
        if number >= len(given) or level not in {"+", given[number]}:
            return False
    return len(wanted) == len(given)


def overlap(one: str, other: str) -> bool:
    """Whether some topic is one of those that either filter names."""
    levels, others = _get_levels(one), _get_levels(other)
    for first, second in ((levels[0], others[0]), (others[0], levels[0])):
        if first in {"+", "#"} and second.startswith("$"):
            return False
    for level, its in zip(levels, others, strict=False):
        if "#" in (level, its):
            return True
        if level != its and "+" not in (level, its):
            return False
    longer = max(levels, others, key=len)[min(len(levels), len(others)) :]
    return longer in ([], ["#"])  # "a/#" names "a" as well


def _fill_in(topic: str, source: str) -> str:
    """Return a filter of what ``topic`` becomes for the messages of the filter ``source``."""
    levels = topic.replace(TOPIC, "/".join(_get_levels(source))).split("/")
    return "/".join("#" if "#" in level else "+" if "+" in level else level for level in levels)


def _get_levels(topic_filter: str) -> list[str]:
    levels = topic_filter.split("/")
    return levels[2:] if levels[0] == "$share" and len(levels) > 2 else levels


def _can_be_published(topic: str) -> bool:
    return not any(sign in topic for sign in "+#\0")


def _load_toml(path: Path) -> dict[str, Any]:
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        document: dict[str, Any] = tomllib.loads(path.read_text())
    except FileNotFoundError as exc:
        raise SettingsError(
            f"{path} does not exist", hint="docs/sources.md has one to begin with", code=CODE
        ) from exc
    except (OSError, tomllib.TOMLDecodeError, UnicodeDecodeError) as exc:
        raise SettingsError(
            f"{path} cannot be read: {exc}", hint="it must be TOML: key = value", code=CODE
        ) from exc
    return document


def _suggest(message: str) -> str:
    """Return the key or the value that was meant, or those that may stand there."""
    where = re.search(r"at `\$\.?(\w*)", message)
    part = _PARTS.get(where.group(1) if where else "", BridgeSettings)
    keys = part.__struct_fields__
    if (unknown := re.search(r"unknown field `([^`]*)`", message)) is not None:
        close = get_close_matches(unknown.group(1), keys, 1)
        return f"did you mean {close[0]!r}?" if close else f"known are {', '.join(keys)}"
    return f"the keys are {', '.join(keys)}; docs/sources.md explains them"
