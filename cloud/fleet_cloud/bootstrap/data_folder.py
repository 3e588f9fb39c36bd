"""The data folder: made where it is not there, and kept to one controller."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from fleet_cloud.errors import SettingsError
from fleet_cloud.settings import Settings


def make_data(settings: Settings) -> None:
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise SettingsError(
            f"the data folder {settings.data} cannot be made: {exc}",
            hint="choose another: --data DIR, or FLEET_DATA",
        ) from exc


@contextmanager
def holding(data: Path) -> Iterator[None]:
    """Keep the data folder to this process: two would write keys, metadata and decisions side by side."""
    with _open_lock(data / "lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            raise SettingsError(
                f"another controller runs on {data}",
                hint="stop that one first, or choose another folder: --data",
                code="data.in_use",
            ) from exc
        yield


def _open_lock(path: Path) -> IO[str]:
    try:
        return path.open("w")
    except OSError as exc:
        raise SettingsError(
            f"the data folder {path.parent} cannot be written: {exc.strerror}",
            hint="check its owner and permissions, or choose another: --data DIR, or FLEET_DATA",
        ) from exc
