"""The audit log in both databases: appended to by many at once, changed by nobody."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from fleet_cloud.adapters.db.engine import open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_cloud.domain.audit import find_break
from fleet_cloud.domain.people import Actor, Role

ANN = Actor("ann", Role.ADMIN, "10.0.0.1")


def test_many_who_append_at_once_make_one_chain(url: str) -> None:
    engine = open_engine(url)
    uow = DatabaseUnitOfWork(engine)

    def append(number: int) -> None:
        for round_number in range(5):
            with uow.begin() as transaction:
                transaction.audit.append(
                    ANN, round_number, "device.label", f"pi-{number}", before=None, after='{"ä":"1"}'
                )

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    with uow.read() as transaction:
        chain = transaction.audit.page(0, 100)
        last = transaction.audit.last()
    assert len(chain) == 20
    assert find_break(chain) is None
    assert last == chain[-1]
    engine.dispose()


@pytest.mark.parametrize("change", ["UPDATE audit SET actor = 'eve'", "DELETE FROM audit"])
def test_the_database_refuses_to_change_an_entry(url: str, change: str) -> None:
    engine = open_engine(url)
    with DatabaseUnitOfWork(engine).begin() as transaction:
        transaction.audit.append(ANN, 1, "device.label", "pi-1", before=None, after=None)
    with pytest.raises(DBAPIError, match="append-only"), engine.begin() as connection:
        connection.execute(text(change))
    engine.dispose()
