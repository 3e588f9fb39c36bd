"""Troubles that pass: the network and the disk. They say nothing about what is to be verified."""

import errno
from typing import Final

from fleet_agent.errors import TrustError

FULL_ERRORS: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class PassingError(TrustError):
    """The same request may succeed later."""

    code = "trust.passing"


class UnreachableError(PassingError):
    code = "trust.metadata.unreachable"


class ExpiredError(PassingError):
    """Signed, and out of date: a wrong clock is corrected, and metadata is signed again."""

    code = "trust.metadata.expired"


class MetadataError(PassingError):
    """Not signed as it must be. It says nothing about what it was fetched for, and the next may be whole."""

    code = "trust.metadata.invalid"


class OlderError(MetadataError):
    code = "trust.metadata.older"


class TooLongError(MetadataError):
    code = "trust.metadata.length"


class ManifestError(PassingError):
    """Not the bytes that the lists name: a mirror lies, or the way damages them."""

    code = "trust.manifest.digest"


class StorageError(PassingError):
    """The disk of the device cannot be read or written."""

    code = "trust.storage"


def map_os_error(exc: OSError) -> StorageError:
    if exc.errno in FULL_ERRORS:
        return StorageError(
            f"the disk of the device is full: {exc}", hint="free space on the device", code="disk.full"
        )
    return StorageError(
        f"the state of the device cannot be read or written: {exc}",
        hint="look at the disk of the device, and at who may write to its state folder",
    )
