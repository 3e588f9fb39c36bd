"""Databases that are up to date, as copies of one that is: to carry all migrations out takes its time."""

import tempfile
from functools import cache
from pathlib import Path

from fleet_cloud.adapters.db.engine import migrate, open_engine


def bring_up_to_date(url: str) -> None:
    engine = open_engine(url)
    migrate(engine)
    engine.dispose()


def sqlite_in(folder: Path) -> str:
    """Return the URL of the database in a folder, which is made where there is none."""
    file = folder / "fleet.db"
    if not file.exists():
        file.write_bytes(_newest())
    return f"sqlite:///{file}"


@cache
def _newest() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "fleet.db"
        bring_up_to_date(f"sqlite:///{file}")
        assert [one.name for one in file.parent.iterdir()] == [file.name], "nothing is left beside the file"
        return file.read_bytes()
