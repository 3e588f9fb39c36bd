"""A reading that a machine may refuse: containers hide files, sensors come and go."""

from collections.abc import Callable
from typing import TypeVar

import psutil

T = TypeVar("T")


def read_or(otherwise: T, read: Callable[[], T]) -> T:
    """Return what ``read`` gives, or ``otherwise`` when this machine has no such reading.

    psutil parses files of the kernel, and what is missing there comes as any of these.
    """
    try:
        return read()
    except (
        OSError,
        ValueError,
        LookupError,
        AttributeError,
        RuntimeError,
        psutil.Error,
        NotImplementedError,
    ):
        return otherwise
