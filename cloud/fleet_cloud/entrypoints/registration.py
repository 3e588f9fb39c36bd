"""A build becomes a version: blobs first, then the draft. Hours of training are not lost to a
controller that is away for a while: what cannot be registered is kept in a folder."""

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import msgspec

from fleet_cloud.client import Client, VersionView
from fleet_cloud.errors import BuildError, Conflict, NotFound, Unavailable
from fleet_shared.errors import FleetError
from fleet_shared.manifest import BlobRef
from fleet_shared.names import Digest, digest_of, parse_digest

log = logging.getLogger(__name__)

RETRY_DELAYS_S: Final = (1.0, 2.0, 4.0, 8.0, 15.0, 30.0)
"""Waits between tries while the controller is away: a minute, enough for a restart."""

DRAFT_FILE: Final = "draft.json"
BLOBS_FOLDER: Final = "blobs"


class Draft(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is sent to register a version, and the model's name. ``version``: none for the next.
    ``artifacts``: what is kept for people; a controller from before there were any is not told of none."""

    model: str
    version: str | None
    variants: list[dict[str, Any]]
    lineage: dict[str, Any]
    artifacts: dict[str, BlobRef] = {}

    def body(self) -> dict[str, Any]:
        body = {"version": self.version, "variants": self.variants, "lineage": self.lineage}
        return {**body, "artifacts": self.artifacts} if self.artifacts else body


@dataclass(frozen=True)
class Release:
    """A draft with the bytes of its blobs."""

    draft: Draft
    contents: Mapping[Digest, bytes]

    def with_artifacts(self, artifacts: Mapping[str, bytes]) -> "Release":
        """Return the release with these files kept for people, by name."""
        refs = {
            name: BlobRef(sha256=digest_of(content), size_bytes=len(content))
            for name, content in artifacts.items()
        }
        contents = {digest_of(content): content for content in artifacts.values()}
        draft = msgspec.structs.replace(self.draft, artifacts={**self.draft.artifacts, **refs})
        return Release(draft, {**self.contents, **contents})

    def with_version(self, version: str | None) -> "Release":
        if version is None:
            return self
        return replace(self, draft=msgspec.structs.replace(self.draft, version=version))


def check_controller(client: Client, model: str, version: str | None) -> None:
    """Notice before hours of training what would refuse their result: a controller that is away, a
    token that is wrong, a version number that is taken (`Conflict`, ``model.version.exists``)."""
    client.status()  # guarded, unlike the health route
    if version is None:
        return
    try:
        client.version(model, version)
    except NotFound:
        return
    raise Conflict(
        f"{model}:{version} exists",
        hint="a version never changes: choose another number, or leave it out",
        code="model.version.exists",
    )


def register(
    client: Client,
    release: Release,
    waiting: Callable[[float], None],
    sleep: Callable[[float], None] = time.sleep,
) -> VersionView:
    """Register the release; each step may be repeated. ``waiting`` is told the seconds to the next
    try while the controller is away. Raises what the last try raised."""
    for delay_s in RETRY_DELAYS_S:
        try:
            return _try(client, release)
        except Unavailable:
            waiting(delay_s)
            sleep(delay_s)
    return _try(client, release)


def _try(client: Client, release: Release) -> VersionView:
    for digest, content in release.contents.items():
        client.put_blob(digest, content)
    return client.create_version(release.draft.model, release.draft.body())


def register_or_keep(
    client: Client,
    release: Release,
    waiting: Callable[[float], None],
    sleep: Callable[[float], None] = time.sleep,
) -> VersionView:
    """Register the release. It is kept before the first try, for an impatient operator may end the
    build at any time; a failure names the folder in its hint, a success removes it."""
    folder = _keep_if_possible(release)
    try:
        version = register(client, release, waiting, sleep)
    except FleetError as exc:
        if exc.code == "model.content.exists" and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        raise _kept(exc, folder) from exc
    if folder is not None:
        shutil.rmtree(folder, ignore_errors=True)
    return version


def _keep_if_possible(release: Release) -> Path | None:
    try:
        return keep(release)
    except OSError as trouble:
        log.warning("the finished build cannot be kept: %s", trouble.strerror)
        return None


def _kept(exc: FleetError, folder: Path | None) -> BuildError:
    if folder is None:
        return BuildError(
            f"{exc.message}; the finished build could not be kept either", hint=exc.hint, code=exc.code
        )
    return BuildError(
        f"{exc.message}; the finished build is kept", hint=f"fleet model register {folder}", code=exc.code
    )


def keep(release: Release) -> Path:
    """Write the release into a new folder here, or below the temporary folder; return it."""
    prefix = f"fleet-build-{release.draft.model}-"
    here = Path.cwd()
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=here if os.access(here, os.W_OK) else None))
    (folder / BLOBS_FOLDER).mkdir()
    for digest, content in release.contents.items():
        (folder / BLOBS_FOLDER / digest).write_bytes(content)
    (folder / DRAFT_FILE).write_bytes(msgspec.json.encode(release.draft))
    return folder


def load_kept(folder: Path) -> Release:
    """Return the release that `keep` wrote; raise `BuildError` (``build.folder``) when it is not whole."""
    try:
        draft = msgspec.json.decode((folder / DRAFT_FILE).read_bytes(), type=Draft)
        blobs = {parse_digest(file.name): file.read_bytes() for file in (folder / BLOBS_FOLDER).iterdir()}
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError, FleetError) as exc:
        raise BuildError(
            f"{folder} holds no finished build: {exc}",
            hint=f"it has {DRAFT_FILE} and a folder {BLOBS_FOLDER}, as a failed registration left them",
            code="build.folder",
        ) from exc
    for digest, content in blobs.items():
        if digest_of(content) != digest:
            raise BuildError(
                f"{folder / BLOBS_FOLDER / digest} is damaged", hint="build it again", code="build.folder"
            )
    return Release(draft, blobs)
