"""The agent's log files are bounded, and cost nobody anything on a disk that takes none."""

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fleet_agent.logs import add_log_file


@pytest.fixture
def root() -> Iterator[logging.Logger]:
    logger = logging.getLogger()
    before = list(logger.handlers)
    yield logger
    for handler in set(logger.handlers) - set(before):
        logger.removeHandler(handler)
        handler.close()


@pytest.mark.parametrize(("files", "kept"), [(1, 2), (2, 2), (3, 3)])
def test_so_many_files_of_that_size_and_no_more(
    tmp_path: Path, root: logging.Logger, files: int, kept: int
) -> None:
    add_log_file(tmp_path / "agent.log", 1000, files)
    for number in range(500):
        root.warning("line %d of a log that never ends", number)
    found = list(tmp_path.iterdir())
    assert len(found) == kept
    assert all(file.stat().st_size <= 1000 for file in found)
    assert "line 499" in (tmp_path / "agent.log").read_text()


def test_none_is_none(tmp_path: Path, root: logging.Logger) -> None:
    add_log_file(tmp_path / "agent.log", 1000, 0)
    root.warning("a line")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_takes_no_line_costs_lines_only(
    tmp_path: Path, root: logging.Logger, capsys: pytest.CaptureFixture[str]
) -> None:
    add_log_file(tmp_path / "no such folder" / "agent.log", 1000, 2)
    root.warning("a line")
    assert "Traceback" not in capsys.readouterr().err
