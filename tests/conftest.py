"""Real parts for all tests: a broker for each test, one database server and object store a run.

They are imported where they are used: the agent's own environments have not all of them.
"""

import os
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.kit.spent import METER, SPENT, Meter, sum_up, tell_spent

if TYPE_CHECKING:
    from tests.kit.mosquitto import Mosquitto
    from tests.kit.object_store import ObjectStore
    from tests.kit.postgres import Postgres

LOG_LINES = 40
TOLD = "told"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    """Called where several processes share the tests, as in `make test`."""
    from tests.kit.shared_out import ByGroup

    return ByGroup(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    config.stash[METER] = Meter()
    if hasattr(config, "workerinput"):
        from tests.kit.shared_out import put_long_ones_first

        put_long_ones_first(items)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Say what it cost, and show the end of every log in the folders of a test that failed."""
    report = yield
    report.user_properties.append((SPENT, item.config.stash[METER].take()))
    if report.failed:
        for log in _find_logs(getattr(item, "funcargs", {})):
            lines = log.read_text(errors="replace").splitlines()[-LOG_LINES:]
            report.sections.append((f"end of {log.name}", "\n".join(lines)))
    return report


def _find_logs(fixtures: dict[str, object]) -> list[Path]:
    found = (getattr(fixture, "folder", None) for fixture in fixtures.values())
    worlds = {folder for folder in found if isinstance(folder, Path)}
    own = fixtures.get("tmp_path")
    folders = worlds | ({own} if isinstance(own, Path) else set())
    return sorted({log for folder in folders for log in folder.rglob("*.log")})


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Builds of the tests find nothing that somebody else's have kept, and leave nothing in his home."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "FLEET_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Give a text that is shown at the end of the run, also of a test that passed."""
    return lambda text: record_property(TOLD, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [one for some in terminalreporter.stats.values() for one in some]
    reports = [one for one in found if isinstance(one, pytest.TestReport)]
    for report in reports:
        for name, text in report.user_properties:
            if name == TOLD and report.when == "teardown":
                terminalreporter.write_line(f"\n{report.nodeid}\n{text}")
    for line in tell_spent(sum_up(reports)):
        terminalreporter.write_line(line)


@pytest.fixture
def mosquitto(tmp_path: Path) -> "Iterator[Mosquitto]":
    from tests.kit.mosquitto import mosquitto_broker

    with mosquitto_broker(tmp_path) as broker:
        yield broker


@pytest.fixture(scope="session")
def postgres_server() -> "Iterator[Postgres]":
    from tests.kit.postgres import postgres

    with postgres() as server:
        yield server


@pytest.fixture
def postgres_url(postgres_server: "Postgres") -> str:
    """An empty database."""
    return postgres_server.create_database()


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> "Iterator[ObjectStore]":
    from tests.kit.object_store import object_store

    with object_store(tmp_path_factory.mktemp("s3")) as store:
        yield store
