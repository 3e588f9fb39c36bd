"""Who may come in. Pure, and decided before any session is looked at: a refused CONNECT changes nothing.

The certificate says who a client is; its client id and its user name, if it gives one, must say the same, so
that one device cannot throw out another. A device must be known, with the key on record.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from fleet_cloud.adapters.broker.identity import Identity
from fleet_cloud.adapters.broker.packets import Connect, Will
from fleet_cloud.domain.topic_rules import TopicRules, is_controller
from fleet_shared.names import DeviceId, Digest

WILL_BYTES: Final = 4 * 1024


class Code(IntEnum):
    """Return codes of CONNACK (3.1.1, section 3.2.2.3)."""

    ACCEPTED = 0
    VERSION = 1
    IDENTIFIER = 2
    UNAVAILABLE = 3
    CREDENTIALS = 4
    NOT_AUTHORIZED = 5


@dataclass(frozen=True, slots=True)
class Refusal:
    code: Code
    reason: str


def judge(
    connect: Connect,
    identity: Identity | None,
    rules: TopicRules,
    known: Mapping[DeviceId, Digest] | None,
) -> Refusal | None:
    """Return why a client is refused, or none. ``rules`` are those of ``identity``; ``known``: the key of
    each device that may come in, none as long as nobody has said."""
    if identity is None:
        return Refusal(Code.NOT_AUTHORIZED, "no certificate that names it")
    return (
        _judge_names(connect, identity)
        or (None if is_controller(identity.name) else _judge_device(identity, known))
        or (_judge_will(connect.will, rules) if connect.will else None)
    )


def _judge_names(connect: Connect, identity: Identity) -> Refusal | None:
    if connect.client_id != identity.name:
        return Refusal(Code.IDENTIFIER, f"client id {connect.client_id[:64]!r} is not its own")
    if connect.username not in (None, identity.name):
        return Refusal(Code.CREDENTIALS, "the user name is not its own")
    return None


def _judge_device(identity: Identity, known: Mapping[DeviceId, Digest] | None) -> Refusal | None:
    if known is None:
        return Refusal(Code.UNAVAILABLE, "which devices there are is not known yet")
    key = known.get(DeviceId(identity.name))
    if key is None:
        return Refusal(Code.NOT_AUTHORIZED, "unknown or revoked")
    if key != identity.key:
        return Refusal(Code.NOT_AUTHORIZED, "its key is not the one on record")
    return None


def _judge_will(will: Will, rules: TopicRules) -> Refusal | None:
    if not rules.may_publish(will.topic, retain=will.retain):
        return Refusal(Code.NOT_AUTHORIZED, f"its will is for {will.topic[:200]!r}")
    if len(will.payload) > WILL_BYTES:
        return Refusal(Code.NOT_AUTHORIZED, f"its will is longer than {WILL_BYTES} bytes")
    return None
