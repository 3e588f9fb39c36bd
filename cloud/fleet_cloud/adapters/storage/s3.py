"""Blobs in any S3, through boto3. A blob is spooled and verified before it becomes visible."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from fleet_cloud.adapters.storage.filesystem import check_digest, unknown_blob
from fleet_cloud.errors import CloudError, SettingsError, Unavailable
from fleet_cloud.services.ports import BlobInfo
from fleet_shared.names import Digest

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

PART_BYTES: Final = 256 * 1024
SPOOL_MEMORY_BYTES: Final = 8 * 1024 * 1024
_MISSING: Final = frozenset({"404", "NoSuchKey", "NotFound"})
_DENIED: Final = frozenset({"403", "AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"})


@dataclass(frozen=True, slots=True)
class S3Address:
    """``prefix`` ends with a slash or is empty; no endpoint means Amazon's."""

    bucket: str
    prefix: str
    endpoint: str | None
    region: str
    access_key: str | None
    secret_key: str | None


class S3Blobs:
    """Implements `BlobStore`."""

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self._client: S3Client = boto3.client(
            "s3",
            endpoint_url=address.endpoint,
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

    def check(self) -> None:
        """Raise `Unavailable` or `SettingsError` unless the bucket can be used."""
        with self._mapped():
            self._client.head_bucket(Bucket=self._address.bucket)

    def put(self, sha256: Digest, parts: Iterator[bytes]) -> BlobInfo:
        with tempfile.SpooledTemporaryFile(max_size=SPOOL_MEMORY_BYTES) as spool:
            for part in check_digest(sha256, parts):
                spool.write(part)
            size = spool.tell()
            spool.seek(0)
            with self._mapped():
                self._client.put_object(
                    Bucket=self._address.bucket, Key=self._key(sha256), Body=spool, ContentLength=size
                )
        return BlobInfo(sha256, size)

    def info(self, sha256: Digest) -> BlobInfo | None:
        try:
            with self._mapped():
                head = self._client.head_object(Bucket=self._address.bucket, Key=self._key(sha256))
        except _MissingError:
            return None
        return BlobInfo(sha256, head["ContentLength"])

    def read(self, sha256: Digest, start: int = 0, end: int | None = None) -> Iterator[bytes]:
        span = f"bytes={start}-{'' if end is None else end - 1}"
        try:
            with self._mapped():
                found = self._client.get_object(
                    Bucket=self._address.bucket, Key=self._key(sha256), Range=span
                )
                yield from found["Body"].iter_chunks(PART_BYTES)
        except _MissingError as exc:
            raise unknown_blob(sha256) from exc

    def presigned_url(self, sha256: Digest, life_s: int) -> str | None:
        return self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._address.bucket, "Key": self._key(sha256)},
            ExpiresIn=life_s,
        )

    def _key(self, sha256: Digest) -> str:
        return f"{self._address.prefix}{sha256[:2]}/{sha256}"

    @contextmanager
    def _mapped(self) -> Iterator[None]:
        """Map boto3's errors to ours, in one place."""
        try:
            yield
        except ClientError as exc:
            raise self._describe(exc) from exc
        except BotoCoreError as exc:
            raise Unavailable(
                f"the blob store {self._address.endpoint or 's3'} cannot be reached: {exc}",
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
        if code in _DENIED:
            return SettingsError(
                f"the blob store refuses access to bucket {bucket!r}: {code}",
                hint="check FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY, and the bucket's policy",
                code="storage.denied",
            )
        return Unavailable(f"the blob store refuses: {exc}", code="storage.unreachable")


class _MissingError(CloudError):
    """No such object: turned into none or `NotFound` within this module."""
