"""A variant as it is registered: contract and blobs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from fleet_cloud.errors import Invalid
from fleet_cloud.factory.golden import Vectors, make_golden
from fleet_cloud.factory.inspect import FileFacts, inspect_file
from fleet_cloud.factory.peers import Peer
from fleet_shared.manifest import BlobRef, Contract, Metrics, Preprocessing, Role
from fleet_shared.names import Digest, digest_of


@dataclass(frozen=True)
class Package:
    """``blobs`` by role, with their bytes; ``warnings``: what whoever builds it should know; ``left_out``:
    runtimes that were asked and for which it is not, with the reason."""

    name: str
    contract: Contract
    blobs: dict[Role, bytes]
    warnings: tuple[str, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)

    @property
    def refs(self) -> dict[Role, BlobRef]:
        return {
            role: BlobRef(sha256=digest_of(content), size_bytes=len(content))
            for role, content in self.blobs.items()
        }

    @property
    def contents(self) -> dict[Digest, bytes]:
        return {digest_of(content): content for content in self.blobs.values()}


def package(
    name: str,
    model: bytes,
    *,
    labels: Sequence[str],
    preprocessing: Preprocessing,
    metrics: Metrics,
    candidates: Sequence[Sequence[NDArray[Any]]],
    golden: Vectors | None = None,
    peers: Sequence[Peer] = (),
) -> Package:
    """Return the variant; golden vectors are made from ``candidates`` unless they are given."""
    facts = inspect_file(model)
    if not facts.runtimes:
        raise Invalid("no runtime that Fleet knows can run this file", code="model.file.unloadable")
    vectors = golden or make_golden(model, candidates, allowed_peers(facts, peers))
    contract = Contract(
        inputs=facts.inputs,
        outputs=facts.outputs,
        ops=facts.ops,
        runtimes={name: text for name, text in facts.runtimes.items() if name not in vectors.left_out},
        memory_bytes=facts.memory_bytes,
        golden=vectors.rule,
        preprocessing=preprocessing,
        metrics=metrics,
    )
    blobs = {Role.MODEL: model, Role.GOLDEN: vectors.content}
    if labels:
        blobs[Role.LABELS] = "".join(f"{label}\n" for label in labels).encode()
    return Package(name, contract, blobs, _find_warnings(name, vectors), vectors.left_out)


def allowed_peers(facts: FileFacts, peers: Sequence[Peer]) -> list[Peer]:
    """Return those that no rule keeps from running the file."""
    return [peer for peer in peers if peer.name in facts.runtimes]


def _find_warnings(name: str, vectors: Vectors) -> tuple[str, ...]:
    found = [f"{name} is not for {peer}: {why}" for peer, why in vectors.left_out.items()]
    if vectors.weak:
        much = f"differences of {vectors.share:.0%} of the output's range"
        found.append(f"the golden vectors of {name} allow {much}: a device proves little with them")
    return tuple(found)
