"""A signal that ends a command ends it in order: ``finally`` blocks run, so that no process and no
folder of it is left behind."""

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Final, NoReturn

ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


class Ended(SystemExit):
    """A signal asked for the end. (A `SystemExit`, which asyncio and `except Exception` let through.)"""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def raise_on_signals() -> None:
    """From now on SIGTERM and SIGHUP raise `Ended`, once. What is ignored (nohup) stays ignored; a
    server that installs handlers of its own while it serves is not disturbed."""
    for number in ENDING:
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _raise)


@contextmanager
def telling_if_interrupted(what: str) -> Iterator[None]:
    """Tell ``what`` on standard error when Ctrl-C or a signal ends what is inside."""
    try:
        yield
    except (KeyboardInterrupt, Ended):
        with suppress(OSError):  # the terminal may be what has gone
            print(what, file=sys.stderr, flush=True)
        raise


def die_of(ended: Ended) -> NoReturn:
    """End as the signal would have ended it: whoever waits for this process sees the signal."""
    signal.signal(ended.number, signal.SIG_DFL)
    os.kill(os.getpid(), ended.number)
    raise ended


def _raise(number: int, _frame: FrameType | None) -> None:
    for each in ENDING:  # a second one would interrupt the cleaning up
        if signal.getsignal(each) is _raise:
            signal.signal(each, signal.SIG_IGN)
    raise Ended(number)
