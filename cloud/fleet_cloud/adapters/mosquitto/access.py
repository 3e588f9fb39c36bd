"""`BrokerAccess` for Mosquitto: dynamic security says what a device may, the revocation list who connects.

Both are needed. The plugin is not asked whether a client with a certificate may connect: a deleted one gets
in, and may do nothing there. And Mosquitto looks at its revocation list at a handshake only: a session that
lives goes on.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Final

from fleet_cloud.adapters.mosquitto.commands import (
    NO_CLIENT,
    Command,
    Entry,
    admission,
    entry_of,
    expulsion,
)
from fleet_cloud.adapters.mosquitto.control import Control
from fleet_cloud.adapters.mosquitto.plan import Changes, Found, is_admitted, plan_sync, read_client
from fleet_cloud.domain.topic_rules import device_rules
from fleet_cloud.errors import Unavailable
from fleet_shared.names import DeviceId, Digest
from fleet_shared.topics import Topics

log = logging.getLogger(__name__)

PAGE: Final = 200
BATCH_MAX: Final = 20
BATCH_S: Final = 0.2
"""Mosquitto does nothing else while it carries out a message, and writes its whole file at each change."""
MANY: Final = 500
TRIES: Final = 5
HANDSHAKE_S: Final = 120.0
"""Mosquitto ends a connection that says nothing after 90 s. One that was opened before the revocation list
was read, and shows its certificate after the cut, may be judged by the older list."""


class DynamicSecurity:
    """``reload`` makes Mosquitto read its TLS files again if they have changed, and returns when it was
    told; it raises `Unavailable`."""

    def __init__(
        self,
        control: Control,
        topics: Topics,
        reload: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._control, self._topics, self._reload, self._clock = control, topics, reload, clock
        self._cut_at: dict[DeviceId, float] = {}
        self._turn = threading.Lock()
        """Held for one message: a revocation waits for no sync."""
        self._last_word: dict[DeviceId, Digest | None] = {}
        """What was said of a device since the start, which is newer than any list given to `sync`."""

    def sync(self, devices: Iterable[tuple[DeviceId, Digest]]) -> None:
        """Let these devices in, and no others; clients that an operator made by hand stay. Where Mosquitto
        cannot be made to read its files, whoever is not among them is cut off all the same, and the error is
        raised then."""
        unread = self._try_reload()
        with self._turn:
            said = dict(self._last_word)
        changes = plan_sync(self._wanted(devices, said), self._load_clients())
        if unread is not None:
            changes = Changes(remove=changes.foreign, admit=())
        if len(changes.admit) > MANY:
            log.warning(
                "%d devices are let in one after the other, which takes long; faster is to stop the broker, "
                "give it the file of `fleet broker config`, and start it",
                len(changes.admit),
            )
        for device in changes.remove:
            self._cut_at[device] = self._clock()
            self._change([device], said, lambda some: expulsion(some[0]))
        self._admit_all({entry.device: entry for entry in changes.admit}, said)
        if unread is not None:
            raise unread

    def refresh(self) -> None:
        """Bring the broker's files up to date, and cut once more those who may have slipped in with an older
        key; to be called every minute or so. Raises `Unavailable`."""
        self._reload()
        for device in [name for name, at in self._cut_at.copy().items() if self._clock() - at > HANDSHAKE_S]:
            with self._turn:
                known = self._load_client(device)
                back = admission(self._restored(known)) if known is not None and known.device else []
                self._control.run([*expulsion(device), *back])
                del self._cut_at[device]

    def admit(self, device: DeviceId, public_key_sha256: Digest) -> None:
        """Let one more in, and again: the revocation list knows by now that it may come, or that its older
        key may not. Another key cuts off what the device had before."""
        entry = entry_of(self._topics, device, public_key_sha256)
        with self._turn:
            self._last_word[device] = public_key_sha256
            self._reload()
            known = self._load_client(device)
            if is_admitted(entry, known):
                return
            if known is not None:
                self._cut_at[device] = self._clock()
                self._control.run(expulsion(device))
            self._control.run(admission(entry))

    def revoke(self, device: DeviceId) -> None:
        """Close the door, then cut: a device that comes back at once finds it closed. Where the door cannot
        be closed the device loses its rights all the same, and the error is raised afterwards."""
        with self._turn:
            self._last_word[device] = None
            self._cut_at[device] = self._clock()
            try:
                self._reload()
            except Unavailable:
                self._control.run(expulsion(device))
                raise
            self._control.run(expulsion(device))

    def _try_reload(self) -> Unavailable | None:
        try:
            self._reload()
        except Unavailable as exc:
            return exc
        return None

    def _wanted(
        self, devices: Iterable[tuple[DeviceId, Digest]], said: Mapping[DeviceId, Digest | None]
    ) -> Iterator[Entry]:
        """A revocation may be newer than the list: what was said of a device goes before it."""
        for device, key in {**dict(devices), **said}.items():
            if key is not None:
                yield entry_of(self._topics, device, key)

    def _admit_all(self, entries: Mapping[DeviceId, Entry], said: Mapping[DeviceId, Digest | None]) -> None:
        """In batches as large as the broker carries out in a moment."""
        devices, size = list(entries), 1
        while devices:
            batch, devices = devices[:size], devices[size:]
            started = time.monotonic()
            self._change(batch, said, lambda some: [c for device in some for c in admission(entries[device])])
            size = min(BATCH_MAX, size * 2) if time.monotonic() - started < BATCH_S else max(1, size // 2)

    def _change(
        self,
        devices: Sequence[DeviceId],
        said: Mapping[DeviceId, Digest | None],
        plan: Callable[[Sequence[DeviceId]], list[Command]],
    ) -> None:
        """Act on those of whom nothing was said since ``said``: `admit` and `revoke` see to the others."""
        with self._turn:
            some = [device for device in devices if said.get(device, "") == self._last_word.get(device, "")]
            if some:
                self._control.run(plan(some))

    def _restored(self, known: Found) -> Entry:
        """Return a client as it is to come back after a cut: it may what it may now."""
        device = DeviceId(known.name)
        return Entry(device, known.mark, device_rules(self._topics, device))

    def _load_client(self, device: DeviceId) -> Found | None:
        (answer,) = self._control.run([Command("getClient", {"username": device}, NO_CLIENT)])
        return read_client(answer["data"]["client"]) if "data" in answer else None

    def _load_clients(self) -> list[Found]:
        """All clients, read page by page; from the start again when they changed on the way."""
        for _ in range(TRIES):
            clients, total = self._load_pages()
            if len({client.name for client in clients}) == len(clients) == total:
                return clients
        raise Unavailable(
            "the broker's clients change faster than they can be read",
            hint="it is tried again; does somebody else administer the broker?",
            code="broker.control",
        )

    def _load_pages(self) -> tuple[list[Found], int]:
        clients: list[Found] = []
        while True:
            fields = {"verbose": True, "count": PAGE, "offset": len(clients)}
            (answer,) = self._control.run([Command("listClients", fields)])
            page = answer["data"]["clients"]
            clients += map(read_client, page)
            if not page or len(clients) >= answer["data"]["totalCount"]:
                return clients, answer["data"]["totalCount"]
