"""Where the agent's log goes: standard error, for the service manager, and a few files that rotate."""

import logging
import sys
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import Final

FORMAT: Final = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class QuietFile(RotatingFileHandler):
    """A disk that is full or read-only costs lines, and says nothing on standard error for each."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the library's name
        if not isinstance(sys.exc_info()[1], OSError):
            super().handleError(record)


def add_log_file(path: Path, file_bytes: int, files: int) -> None:
    """Write the log to ``path`` as well: ``files`` of ``file_bytes`` (two at least: one is written while
    the other is there to be read), the oldest goes first; none for 0."""
    if files < 1:
        return
    older = max(1, files - 1)
    handler = QuietFile(path, maxBytes=file_bytes, backupCount=older, delay=True, encoding="utf-8")
    handler.setFormatter(logging.Formatter(FORMAT))
    logging.getLogger().addHandler(handler)
