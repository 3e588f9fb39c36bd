"""A broker under attack: a victim that listens, the controller that hears all, and a device that attacks.

What the broker lets through is seen by those who would get it: after each attack the controller says one more
word to everybody, and whatever came before that word did pass.
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

from tests.kit.broker_attacks import Forgery, Kind
from tests.kit.broker_client import BrokerClient, Refused
from tests.kit.certificates import Party, TestAuthority
from tests.kit.secure_broker import secure_site
from tests.kit.secure_mosquitto import secure_mosquitto

ROOT = "fleet/v1"
VICTIM, OWN, CONTROLLER = "pi-1", "pi-2", "ctl-fleet"
READS = ("desired", "ack", "chunk", "command/+")
SECRET, FORGED = b"secret", b"forged"
TO_VICTIM, TO_OWN = f"{ROOT}/devices/{VICTIM}/ack", f"{ROOT}/devices/{OWN}/ack"


@dataclass
class AttackedBroker:
    port: int
    authority: TestAuthority
    parties: Mapping[str, Party]
    mqtt5: bool
    victim: BrokerClient
    controller: BrokerClient
    _numbers: Iterator[int] = field(default_factory=count)

    def attacker(
        self, client_id: str = OWN, username: str | None = None, will: tuple[str, bytes] | None = None
    ) -> BrokerClient:
        return BrokerClient(
            self.port, self.parties[OWN].tls, client_id, username=username, will=will, mqtt5=self.mqtt5
        )

    def forge(self, forgery: Forgery) -> list[tuple[str, bytes]]:
        """Attack, and return what reached the victim or the controller."""
        topic = fill(forgery.topic)
        if forgery.kind is Kind.WILL:
            self.die_with_will(topic)
        else:
            with self.attacker() as attacker:
                taken = attacker.publish(topic, FORGED, retain=forgery.retain)
            assert not (taken and self.mqtt5), "the broker says that it took it"
        return self.overhear()

    def die_with_will(self, topic: str) -> None:
        """Return once the broker has done with the will whatever it does: by then it knows of the end, since
        the same client comes again."""
        try:
            with self.attacker(will=(topic, FORGED)) as dying:
                dying.cut()
        except Refused:
            pass
        with self.attacker():
            pass

    def overhear(self) -> list[tuple[str, bytes]]:
        """Return all that the victim and the controller have heard since the last look."""
        mark = self._say(TO_VICTIM)
        return [*read_until(self.victim, TO_VICTIM, mark), *read_until(self.controller, TO_VICTIM, mark)]

    def eavesdrop(self, asked: str) -> tuple[bool, list[tuple[str, bytes]]]:
        """Subscribe as the attacker; tell whether that was granted, and what came of it: what the broker had
        retained for the victim, and what the controller says to it now."""
        with self.attacker() as attacker:
            assert attacker.subscribe(TO_OWN)
            granted = attacker.subscribe(fill(asked))
            for channel in ("desired", "chunk", "command/1"):
                assert self.controller.publish(f"{ROOT}/devices/{VICTIM}/{channel}", SECRET)
            mark = self._say(TO_OWN)
            heard = read_until(attacker, TO_OWN, mark) if attacker.is_connected() else []
        self.overhear()
        return granted, heard

    def _say(self, topic: str) -> bytes:
        mark = b"mark %d" % next(self._numbers)
        assert self.controller.publish(topic, mark)
        return mark


def fill(pattern: str) -> str:
    return pattern.format(root=ROOT, own=OWN, victim=VICTIM)


def read_until(client: BrokerClient, topic: str, mark: bytes) -> list[tuple[str, bytes]]:
    found = []
    while (message := client.get()) != (topic, mark):
        found.append(message)
    return found


@contextmanager
def on_mosquitto(folder: Path, *, mqtt5: bool) -> Iterator[AttackedBroker]:
    with (
        secure_mosquitto(folder, [VICTIM, OWN]) as broker,
        attacked(broker.port, broker.authority, broker.parties, mqtt5=mqtt5) as stage,
    ):
        yield stage


@contextmanager
def on_the_embedded_broker(folder: Path, *, mqtt5: bool) -> Iterator[AttackedBroker]:
    with secure_site(folder) as site:
        site.add(CONTROLLER)
        with attacked(site.port, site.authority, site.parties, mqtt5=mqtt5) as stage:
            yield stage


@contextmanager
def attacked(
    port: int, authority: TestAuthority, parties: Mapping[str, Party], *, mqtt5: bool
) -> Iterator[AttackedBroker]:
    """All parties in place; the broker has retained something of each kind for the victim."""
    with ExitStack() as stack:
        speaker, listener = (
            stack.enter_context(BrokerClient(port, parties[name].tls, name, mqtt5=mqtt5))
            for name in (CONTROLLER, VICTIM)
        )
        assert speaker.subscribe(f"{ROOT}/#")
        for channel in READS:
            assert listener.subscribe(f"{ROOT}/devices/{VICTIM}/{channel}")
        assert speaker.publish(f"{ROOT}/devices/{VICTIM}/desired", SECRET, retain=True)
        assert listener.publish(f"{ROOT}/devices/{VICTIM}/reported", SECRET, retain=True)
        stage = AttackedBroker(port, authority, parties, mqtt5, listener, speaker)
        stage.overhear()
        yield stage
