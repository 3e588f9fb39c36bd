"""From committed decisions to the broker: a message leaves the outbox when the broker has it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from fleet_cloud.services.ports import OutgoingMessage, UnitOfWork

BATCH: Final = 100
IDLE_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class Publisher:
    """``publish`` takes messages and tells which of them the broker has, in the same order. ``first``: what
    the broker must be told before them."""

    uow: UnitOfWork
    publish: Callable[[Sequence[OutgoingMessage]], Sequence[bool]]
    first: Callable[[], None]

    def turn(self) -> float:
        with self.uow.read() as transaction:
            messages = transaction.outbox.pending(BATCH)
        if messages:
            self.first()
        taken = self.publish(messages) if messages else ()
        sent = [m.id for m, has in zip(messages, taken, strict=True) if has and m.id is not None]
        if sent:
            with self.uow.begin() as transaction:
                transaction.outbox.remove(sent)
        return 0.0 if len(sent) == BATCH else IDLE_S
