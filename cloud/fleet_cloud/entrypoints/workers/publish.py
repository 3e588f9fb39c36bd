"""From committed decisions to the broker: a message leaves the outbox when the broker has it."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from fleet_cloud.services.ports import UnitOfWork

BATCH: Final = 100
IDLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Publisher:
    """``publish(topic, payload, retain)`` tells whether the broker took the message."""

    uow: UnitOfWork
    publish: Callable[[str, bytes, bool], bool]

    def turn(self) -> float:
        with self.uow.begin() as transaction:
            messages = transaction.outbox.pending(BATCH)
        sent: list[int] = []
        for message in messages:
            if not self.publish(message.topic, message.payload, message.retain):
                break
            if message.id is not None:
                sent.append(message.id)
        if sent:
            with self.uow.begin() as transaction:
                transaction.outbox.remove(sent)
        return 0.0 if len(sent) == BATCH else IDLE_S
