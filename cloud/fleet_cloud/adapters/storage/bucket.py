"""A bucket in any S3, through boto3: where it is, what its errors mean."""

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

from fleet_cloud.errors import CloudError, SettingsError, Unavailable
from fleet_cloud.masking import mask_url

if TYPE_CHECKING:
    from types_boto3_s3 import S3Client

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


class Bucket:
    """``prefix``: of the keys of all objects that are ours."""

    def __init__(self, address: S3Address) -> None:
        self._address = address
        self.name, self.prefix = address.bucket, address.prefix
        with self.mapped():
            self.client = _make_client(address, address.endpoint)
            # Another host is another signature: it takes a client of its own.
            self.presigner = _make_client(address, address.advertise or address.endpoint)

    def check(self) -> None:
        """Raise `Unavailable` or `SettingsError` unless the bucket can be used."""
        with self.mapped():
            self.client.head_bucket(Bucket=self.name)

    @property
    def _shown(self) -> str:
        return mask_url(self._address.endpoint or f"s3://{self._address.bucket}")

    @contextmanager
    def mapped(self) -> Iterator[None]:
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
        bucket = self.name
        if code == "NoSuchBucket" or (code in _MISSING and exc.operation_name == "HeadBucket"):
            return SettingsError(
                f"the bucket {bucket!r} does not exist", hint="make it first", code="storage.bucket.missing"
            )
        if code in _MISSING:
            return MissingError(str(exc))
        if code in _OUTSIDE:
            return OutsideError(str(exc))
        if code in _DENIED:
            return SettingsError(
                f"the blob store refuses access to bucket {bucket!r}: {code}",
                hint="check FLEET_S3_ACCESS_KEY and FLEET_S3_SECRET_KEY, and the bucket's policy",
                code="storage.denied",
            )
        return Unavailable(
            f"the blob store refuses: {exc}", hint="its own log says why", code="storage.unreachable"
        )


class MissingError(CloudError):
    """No such object: turned into none or `NotFound` by whoever asked."""


class OutsideError(CloudError):
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
