"""Blobs in any S3, through boto3. A blob is spooled and verified before it becomes visible."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
)

from fleet_cloud.adapters.storage.filesystem import check_digest, unknown_blob
from fleet_cloud.errors import CloudError, SettingsError, Unavailable
from fleet_cloud.masking import mask_url
from fleet_cloud.services.ports import BlobInfo
from fleet_shared.names import Digest, parse_digest

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES: Final = 256 * 1024
SPOOL_MEMORY_BYTES: Final = 8 * 1024 * 1024
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_OUTSIDE: Final = frozenset({"416", "InvalidRange"})
_DENIED: Final = frozenset({"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


@dataclass(frozen=True, slots=True)
class S3Address:
    """``prefix`` ends with a slash or is empty; no endpoint means Amazon's. ``advertise``: the
    endpoint by which devices reach the bucket, if another."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    access_key: str | None
    secret_key: str | None
    advertise: str | None = None


class S3Blobs:
    """Implements `BlobStore`."""

    def __init__(self, address: S3Address) -> None:
        self._address = address
        with self._mapped():
            self._client = _make_client(address, address.endpoint)
            # Another host is another signature: it takes a client of its own.
            self._presigner = _make_client(address, address.advertise or address.endpoint)

    def check(self) -> None:
        """Raise `Unavailable` or `SettingsError` unless the bucket can be used."""
        with self._mapped():
            self._client.head_bucket(Bucket=self._address.bucket)

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        key = self._key(sha256)
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES) as spool:
            for part in check_digest(sha256, parts):
                _write(spool, part)
            size = spool.tell()
            spool.seek(0)
            with self._mapped():
                self._client.put_object(Bucket=self._address.bucket, Key=key, Body=spool, ContentLength=size)
        return BlobInfo(sha256, size)

    def info(self, sha256: Digest) -> BlobInfo | None:
        try:
            with self._mapped():
                head = self._client.head_object(Bucket=self._address.bucket, Key=self._key(sha256))
        except _MissingError:
            return None
        return BlobInfo(sha256, head["ContentLength"])

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        last = "" if end is None else max(end - 1, start)
        try:
            with self._mapped():
                found = self._client.get_object(
                    Bucket=self._address.bucket, Key=self._key(sha256), Range=f"bytes={start}-{last}"
                )
                if end is None or end > start:
                    yield from found["Body"].iter_chunks(PART_BYTES)
        except _OutsideError:  # an empty blob has no range at all
            return
        except _MissingError as exc:
            raise unknown_blob(sha256) from exc

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        with self._mapped():
            return self._presigner.generate_presigned_url(
                "get_object",
                Params={"Bucket": self._address.bucket, "Key": self._key(sha256)},
                ExpiresIn=life_s,
            )

    def _key(self, sha256: Digest) -> str:
        digest = parse_digest(sha256)
        return f"{self._address.prefix}{digest[:2]}/{digest}"

    @property
    def _shown(self) -> str:
        return mask_url(self._address.endpoint or f"s3://{self._address.bucket}")

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Map boto3's errors to ours, in one place."""
        try:
            yield
        except ClientError as exc:
            raise self._describe(exc) from exc
        except (NoCredentialsError, PartialCredentialsError, CredentialRetrievalError) as exc:
            raise SettingsError(
                f"there are no keys for the blob store: {exc}",
                hint="set FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY",
                code="storage.denied",
            ) from exc
        except (ParamValidationError, ValueError) as exc:
            raise SettingsError(
                f"the blob store {self._shown} cannot be used: {exc}",
                hint="s3://bucket/prefix?endpoint=http://host:9000&region=us-east-1",
                code="storage.address",
            ) from exc
        except BotoCoreError as exc:
            raise Unavailable(
                f"the blob store {self._shown} cannot be reached: {exc}",
                hint="is it running, and is the endpoint right?",
                code="storage.unreachable",
            ) from exc

    def _describe(self, exc: ClientError) -> CloudError:
        code = str(exc.response.get("Error", {}).get("Code", ""))
        bucket = self._address.bucket
        if code == "NoSuchBucket" or (code in _MISSING and exc.operation_name == "HeadBucket"):
            return SettingsError(
                f"the bucket {bucket!r} does not exist", hint="make it first", code="storage.bucket.missing"
            )
        if code in _MISSING:
            return _MissingError(str(exc))
        if code in _OUTSIDE:
            return _OutsideError(str(exc))
        if code in _DENIED:
            return SettingsError(
                f"the blob store refuses access to bucket {bucket!r}: {code}",
                hint="check FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY, and the bucket's policy",
                code="storage.denied",
            )
        return Unavailable(
            f"the blob store refuses: {exc}", hint="its own log says why", code="storage.unreachable"
        )


class S3Releases:
    """Implements `ReleaseMirror`, under the prefix ``releases/`` of the blobs' own."""

    def __init__(self, blobs: S3Blobs) -> None:
        self._blobs, self._client = blobs, blobs._client  # noqa: SLF001 - of this module
        self._bucket = blobs._address.bucket  # noqa: SLF001
        self._prefix = f"{blobs._address.prefix}releases/"  # noqa: SLF001

    def paths(self) -> frozenset[str]:
        pages = self._client.get_paginator("list_objects_v2")
        with self._blobs._mapped():  # noqa: SLF001
            listed = [
                entry["Key"]
                for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix)
                for entry in page.get("Contents", [])
            ]
        return frozenset(key.removeprefix(self._prefix) for key in listed)

    def get(self, path: str) -> bytes | None:
        try:
            with self._blobs._mapped():  # noqa: SLF001
                found = self._client.get_object(Bucket=self._bucket, Key=self._prefix + path)
                return found["Body"].read()
        except _MissingError:
            return None

    def put(self, path: str, content: bytes) -> None:
        with self._blobs._mapped():  # noqa: SLF001
            self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + path,
                Body=content,
                ContentType="application/json",
            )

    def remove(self, path: str) -> None:
        with self._blobs._mapped():  # noqa: SLF001
            self._client.delete_object(Bucket=self._bucket, Key=self._prefix + path)


class _MissingError(CloudError):
    """No such object: turned into none or `NotFound` within this module."""


class _OutsideError(CloudError):
    """A range outside of the object."""


def _make_client(address: S3Address, endpoint: str | None) -> "S3Client":
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name=address.region,
        aws_access_key_id=address.access_key,
        aws_secret_access_key=address.secret_key,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            connect_timeout=5,
            read_timeout=30,
            # Not every S3 server knows these checksums, some get those of ranges wrong; blobs
            # are verified by their sha256 anyway.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            retries={"max_attempts": 3, "mode": "standard"},
        ),
    )


def _write(spool: "tempfile.SpooledTemporaryFile[bytes]", part: bytes) -> None:
    try:
        spool.write(part)
    except OSError as exc:
        raise Unavailable(
            f"the temporary folder {tempfile.gettempdir()} cannot hold the blob: {exc}",
            hint="free space there, or name another folder in TMPDIR",
            code="storage.spool",
        ) from exc
