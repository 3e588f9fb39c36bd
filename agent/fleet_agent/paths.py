"""Where an agent keeps its state: one folder, laid out here and nowhere else."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class StatePaths:
    """The state folder of one agent.

    identity/   device.json (who I am, where the controller is), key.pem (0600), certificate.pem, ca.pem
    trust/      TUF metadata and verified targets, floor.json (what time it is at least), order.json (the
                newest order), report.json (what is believed); written by the trust child only
    slots/      one folder per installed variant, named by its manifest's digest
    slots.json  which slot is active, which one was before
    update.json the record of the newest update
    downloads/  encoded blobs on their way, named by their digest
    spent.json  what came over the wire for the newest assignment
    outbox.db   telemetry that no ack covers yet
    compiled/   what a runtime made of installed models; may be removed at any time
    runtimes.json   which installed runtimes work
    benchmarks.json what was measured of installed models
    agent.log   what the agent says, rotated
    link.json   when the broker was last there, for people who ask
    """

    root: Path

    @property
    def identity(self) -> Path:
        return self.root / "identity"

    @property
    def trust(self) -> Path:
        return self.root / "trust"

    @property
    def floor(self) -> Path:
        return self.trust / "floor.json"

    @property
    def authorities(self) -> Path:
        return self.identity / "ca.pem"

    @property
    def order(self) -> Path:
        return self.trust / "order.json"

    @property
    def trust_report(self) -> Path:
        return self.trust / "report.json"

    @property
    def timestamp(self) -> Path:
        return self.trust / "metadata" / "timestamp.json"

    @property
    def slots(self) -> Path:
        return self.root / "slots"

    @property
    def pointers(self) -> Path:
        return self.root / "slots.json"

    @property
    def record(self) -> Path:
        return self.root / "update.json"

    @property
    def downloads(self) -> Path:
        return self.root / "downloads"

    @property
    def spent(self) -> Path:
        return self.root / "spent.json"

    @property
    def log(self) -> Path:
        return self.root / "agent.log"

    @property
    def link(self) -> Path:
        return self.root / "link.json"

    @property
    def outbox(self) -> Path:
        return self.root / "outbox.db"

    @property
    def compiled(self) -> Path:
        return self.root / "compiled"

    @property
    def runtimes(self) -> Path:
        return self.root / "runtimes.json"

    @property
    def benchmarks(self) -> Path:
        return self.root / "benchmarks.json"
