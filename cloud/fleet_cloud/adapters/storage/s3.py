"""Blobs and releases in any S3. A blob is spooled and verified before it becomes visible."""

import tempfile
from collections.abc import Iterator
from typing import Final

from fleet_cloud.adapters.storage.bucket import Bucket, MissingError, OutsideError, S3Address
from fleet_cloud.adapters.storage.filesystem import check_digest, unknown_blob
from fleet_cloud.errors import Unavailable
from fleet_cloud.services.ports import BlobInfo
from fleet_shared.names import Digest, parse_digest

PART_BYTES: Final = 256 * 1024
SPOOL_MEMORY_BYTES: Final = 8 * 1024 * 1024


class S3Blobs:
    """Implements `BlobStore`."""

    def __init__(self, address: S3Address) -> None:
        self.bucket = Bucket(address)

    def check(self) -> None:
        """Raise `Unavailable` or `SettingsError` unless the bucket can be used."""
        self.bucket.check()

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        key = self._key(sha256)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES) as spool:
            for part in check_digest(sha256, parts):
                _write(spool, part)
            size = spool.tell()
            spool.seek(0)
            with self.bucket.mapped():
                self.bucket.client.put_object(
                    Bucket=self.bucket.name, Key=key, Body=spool, ContentLength=size
                )
        return BlobInfo(sha256, size)

    def info(self, sha256: Digest) -> BlobInfo | None:
        try:
            with self.bucket.mapped():
                head = self.bucket.client.head_object(Bucket=self.bucket.name, Key=self._key(sha256))
        except MissingError:
            return None
        return BlobInfo(sha256, head["ContentLength"])

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        last = "" if end is None else max(end - 1, start)
        try:
            with self.bucket.mapped():
                found = self.bucket.client.get_object(
                    Bucket=self.bucket.name, Key=self._key(sha256), Range=f"bytes={start}-{last}"
                )
                if end is None or end > start:
                    yield from found["Body"].iter_chunks(PART_BYTES)
        except OutsideError:  # an empty blob has no range at all
            return
        except MissingError as exc:
            raise unknown_blob(sha256) from exc

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        with self.bucket.mapped():
            return self.bucket.presigner.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket.name, "Key": self._key(sha256)},
                ExpiresIn=life_s,
            )

    def _key(self, sha256: Digest) -> str:
        digest = parse_digest(sha256)
        return f"{self.bucket.prefix}{digest[:2]}/{digest}"


class S3Releases:
    """Implements `ReleaseMirror`, under the prefix ``releases/`` of the blobs' own."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket, self._prefix = bucket, f"{bucket.prefix}releases/"

    def paths(self) -> frozenset[str]:
        pages = self._bucket.client.get_paginator("list_objects_v2")
        with self._bucket.mapped():
            listed = [
                entry["Key"]
                for page in pages.paginate(Bucket=self._bucket.name, Prefix=self._prefix)
                for entry in page.get("Contents", [])
            ]
        return frozenset(key.removeprefix(self._prefix) for key in listed)

    def get(self, path: str) -> bytes | None:
        try:
            with self._bucket.mapped():
                found = self._bucket.client.get_object(Bucket=self._bucket.name, Key=self._prefix + path)
                return found["Body"].read()
        except MissingError:
            return None

    def put(self, path: str, content: bytes) -> None:
        with self._bucket.mapped():
            self._bucket.client.put_object(
                Bucket=self._bucket.name,
                Key=self._prefix + path,
                Body=content,
                ContentType="application/json",
            )

    def remove(self, path: str) -> None:
        with self._bucket.mapped():
            self._bucket.client.delete_object(Bucket=self._bucket.name, Key=self._prefix + path)


def _write(spool: "tempfile.SpooledTemporaryFile[bytes]", part: bytes) -> None:
    try:
        spool.write(part)
    except OSError as exc:
        raise Unavailable(
            f"the temporary folder {tempfile.gettempdir()} cannot hold the blob: {exc}",
            hint="free space there, or name another folder in TMPDIR",
            code="storage.spool",
        ) from exc
