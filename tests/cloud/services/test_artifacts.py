"""What a version keeps for people: registered with it, in no manifest, never a device's."""

import msgspec
import pytest

from fleet_cloud.domain.people import Actor, Role
from fleet_cloud.errors import Forbidden, Invalid, NotFound
from fleet_cloud.services.artifacts import ARTIFACTS_MAX, find_artifact
from fleet_cloud.services.drafts import VersionDraft
from fleet_shared.manifest import BlobRef, encode_manifest
from fleet_shared.messages.fetch import Fetch, Part
from fleet_shared.names import Digest
from fleet_shared.version import ModelRef
from tests.kit.parts import PI, Parts
from tests.kit.people import ADMIN

VIEWER = Actor("ann", Role.VIEWER, "here")
OPERATOR = Actor("bob", Role.OPERATOR, "here")
PAGE, KERAS = b"<html>", b"keras" * 100


def draft(parts: Parts, content: bytes = b"model", **artifacts: bytes) -> VersionDraft:
    refs = {name: parts.put(value) for name, value in artifacts.items()}
    return msgspec.structs.replace(parts.draft(content), artifacts=refs)


def register(parts: Parts) -> dict[str, BlobRef]:
    given = draft(parts, **{"report.html": PAGE, "keras/int8": KERAS})
    parts.registry.register("m", given, ADMIN)
    return given.artifacts


def test_a_version_keeps_its_artifacts(parts: Parts) -> None:
    given = register(parts)
    found = parts.registry.get(ModelRef.parse("m"))
    assert found.artifacts == given
    assert find_artifact(found, "report.html", VIEWER) == given["report.html"]
    assert find_artifact(found, "keras/int8", OPERATOR) == given["keras/int8"]


def test_no_manifest_names_an_artifact(parts: Parts) -> None:
    given = register(parts)
    for variant in parts.registry.get(ModelRef.parse("m")).variants:
        raw = encode_manifest(variant.manifest).decode()
        assert not [blob for blob in given.values() if blob.sha256 in raw]


@pytest.mark.parametrize("part", [None, Part(offset=0, length=9)])
def test_no_device_gets_an_artifact_by_its_assignment(parts: Parts, part: Part | None) -> None:
    parts.add_device()
    given = register(parts)
    assignment = parts.push()

    def ask(sha256: Digest) -> str | None:
        fetch = Fetch(request="r", assignment=assignment.id, sha256=sha256, part=part)
        failure = parts.fetching.answer(PI, fetch).chunk.failure
        return None if failure is None else failure.code

    (variant,) = parts.registry.get(ModelRef.parse("m")).variants
    assert [ask(blob.sha256) for blob in variant.manifest.blobs.values()] == [None, None]
    assert [ask(blob.sha256) for blob in given.values()] == ["fetch.forbidden"] * 2


def test_a_viewer_reads_reports_and_hears_nothing_of_the_rest(parts: Parts) -> None:
    register(parts)
    version = parts.registry.get(ModelRef.parse("m"))
    for name in ("keras/int8", "keras/none"):
        with pytest.raises(Forbidden) as caught:
            find_artifact(version, name, VIEWER)
        assert caught.value.code == "api.role"
    with pytest.raises(NotFound, match="keras/none") as unknown:
        find_artifact(version, "keras/none", OPERATOR)
    assert "keras/int8, report.html" in unknown.value.hint


def test_other_artifacts_make_no_other_version(parts: Parts) -> None:
    """What was measured is not part of what a version is; the first report stays."""
    register(parts)
    again = parts.registry.register("m", draft(parts, **{"report.html": b"another"}), ADMIN)
    assert not again.created
    assert set(again.version.artifacts) == {"report.html", "keras/int8"}


def test_artifacts_that_cannot_be_kept_are_refused(parts: Parts) -> None:
    missing = msgspec.structs.replace(
        draft(parts), artifacts={"report.html": BlobRef(sha256=Digest("0" * 64), size_bytes=3)}
    )
    whole = draft(parts, **{"report.html": PAGE})
    ref = BlobRef(sha256=whole.artifacts["report.html"].sha256, size_bytes=1)
    short = msgspec.structs.replace(whole, artifacts={"report.html": ref})
    many = {f"a{number}": b"" for number in range(ARTIFACTS_MAX + 1)}
    for given, code in (
        (missing, "model.blob.missing"),
        (short, "model.blob.missing"),
        (draft(parts, **{"../keys": PAGE}), "model.artifact.name"),
        (draft(parts, **many), "model.artifact.many"),
    ):
        with pytest.raises(Invalid) as caught:
            parts.registry.register("m", given, ADMIN)
        assert caught.value.code == code
    with pytest.raises(NotFound):
        parts.registry.get(ModelRef.parse("m"))


def test_the_audit_log_names_what_was_kept(parts: Parts) -> None:
    register(parts)
    with parts.uow.read() as transaction:
        entries = [one.entry for one in transaction.audit.page(0, 100)]
    (entry,) = [entry for entry in entries if entry.action == "version.register"]
    assert entry.after is not None
    assert msgspec.json.decode(entry.after)["artifacts"] == ["keras/int8", "report.html"]
