"""What older databases hold is carried over, and back."""

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from fleet_cloud.adapters.db.engine import MIGRATIONS, open_engine
from fleet_cloud.adapters.db.unit_of_work import DatabaseUnitOfWork
from fleet_shared.names import Digest, ModelName
from fleet_shared.version import Version

USED, OPEN, KEY = "a" * 64, "b" * 64, "c" * 64
INSERT = (
    "INSERT INTO enrolment (secret_sha256, created_ms, expires_ms, labels, device, public_key_sha256) "
    "VALUES (:secret, 1, 2, '{}', :device, :key)"
)


def move(engine: Engine, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        step = command.downgrade if revision.startswith("-") else command.upgrade
        step(config, revision)


def test_a_token_that_was_used_stays_used_by_its_device(empty_url: str) -> None:
    engine = open_engine(empty_url)
    move(engine, "0002")
    with engine.begin() as connection:
        connection.execute(text(INSERT), {"secret": USED, "device": "pi-1", "key": KEY})
        connection.execute(text(INSERT), {"secret": OPEN, "device": None, "key": None})
    move(engine, "0003")
    with DatabaseUnitOfWork(engine).read() as transaction:
        grants = {grant.secret_sha256: grant for grant in transaction.enrolments.all()}
        uses = transaction.enrolments.uses(None)
    assert {grant.uses_max for grant in grants.values()} == {1}
    assert grants[Digest(USED)].device is None, "it is for whoever comes, and one has come"
    assert [(use.secret_sha256, use.device, use.public_key_sha256) for use in uses] == [(USED, "pi-1", KEY)]
    move(engine, "-1")
    with engine.connect() as connection:
        query = "SELECT secret_sha256, device, public_key_sha256 FROM enrolment ORDER BY secret_sha256"
        rows = [tuple(row) for row in connection.execute(text(query))]
    assert rows == [(USED, "pi-1", KEY), (OPEN, None, None)]
    engine.dispose()


VERSION = (
    "INSERT INTO model_version (model, major, minor, patch, content, created_ms, manifests, lineage) "
    "VALUES ('m', 1, 0, 0, 'c', 1, '[]', '{}')"
)


def test_versions_from_before_have_no_artifacts(empty_url: str) -> None:
    engine = open_engine(empty_url)
    move(engine, "0003")
    with engine.begin() as connection:
        connection.execute(text(VERSION))
    move(engine, "0004")
    with DatabaseUnitOfWork(engine).read() as transaction:
        found = transaction.models.get(ModelName("m"), Version(1, 0, 0))
    assert found is not None
    assert found.artifacts == {}
    move(engine, "-1")
    with engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM model_version")).scalar() == 1
    engine.dispose()
