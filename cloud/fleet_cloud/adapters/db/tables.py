"""The tables. Documents that the database never looks into are JSON text."""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
    text,
)

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)
_SERIAL: Final = BigInteger().with_variant(Integer, "sqlite")

device = Table(
    "device",
    metadata,
    Column("id", String(63), primary_key=True),
    Column("enrolled_ms", BigInteger, nullable=False),
    Column("public_key_sha256", String(64), nullable=False),
    Column("labels", Text, nullable=False),
    Column("online", Boolean, nullable=False),
    Column("session", String(64)),
    Column("last_seen_ms", BigInteger),
    Column("reported", Text),
    Column("revoked_ms", BigInteger),
)

# Certificates that were issued and have not ended yet: what a revocation list is made of.
certificate = Table(
    "certificate",
    metadata,
    Column("serial", String(64), primary_key=True),
    Column("device", String(63), nullable=False, index=True),
    Column("public_key_sha256", String(64), nullable=False),
    Column("issued_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("revoked_ms", BigInteger),
)

enrolment = Table(
    "enrolment",
    metadata,
    Column("secret_sha256", String(64), primary_key=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger, nullable=False),
    Column("labels", Text, nullable=False),
    # The only device that it is for, which gets a new key with it; none for a token for new devices.
    Column("device", String(63)),
    Column("uses_max", Integer, nullable=False),
    Column("revoked_ms", BigInteger),
    # The authorities that the token names; none for one that an older version made.
    Column("ca_sha256", String(64)),
)

# Who enrolled with a token: at most ``uses_max``; the same key again is the same use.
enrolment_use = Table(
    "enrolment_use",
    metadata,
    Column("secret_sha256", String(64), ForeignKey("enrolment.secret_sha256"), primary_key=True),
    Column("public_key_sha256", String(64), primary_key=True),
    Column("device", String(63), nullable=False),
    Column("used_ms", BigInteger, nullable=False),
)

model_version = Table(
    "model_version",
    metadata,
    Column("model", String(64), primary_key=True),
    Column("major", Integer, primary_key=True),
    Column("minor", Integer, primary_key=True),
    Column("patch", Integer, primary_key=True),
    Column("content", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("manifests", Text, nullable=False),
    Column("lineage", Text, nullable=False),
    Column("artifacts", Text, nullable=False),
    UniqueConstraint("model", "content"),
)

encoding = Table(
    "encoding",
    metadata,
    Column("blob", String(64), primary_key=True),
    Column("encoding", String(32), primary_key=True),
    Column("sha256", String(64), nullable=False),
    Column("encoded_bytes", BigInteger, nullable=False),
    Column("size_bytes", BigInteger, nullable=False),
)

rollout = Table(
    "rollout",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("selector", Text, nullable=False),
    Column("devices", Text, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("policy", Text, nullable=False),
    Column("variant", String(64)),
    Column("state", String(16), nullable=False, index=True),
)

assignment = Table(
    "assignment",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("rollout", String(32), ForeignKey("rollout.id"), nullable=False),
    Column("device", String(63), ForeignKey("device.id"), nullable=False),
    Column("model", String(64), nullable=False),
    Column("version", String(32), nullable=False),
    Column("state", String(16), nullable=False),
    Column("is_open", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("deadline_ms", BigInteger, nullable=False),
    Column("variant", String(64)),
    Column("manifest", String(64)),
    Column("order", Text),
    Column("bytes_done", BigInteger, nullable=False),
    Column("bytes_total", BigInteger, nullable=False),
    Column("failure", Text),
    UniqueConstraint("rollout", "device"),
    Index(
        "uq_assignment_open",
        "device",
        "model",
        unique=True,
        sqlite_where=text("is_open"),
        postgresql_where=text("is_open"),
    ),
)

assignment_change = Table(
    "assignment_change",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("assignment", String(32), ForeignKey("assignment.id"), nullable=False, index=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False),
    Column("failure", Text),
)

desired = Table(
    "desired",
    metadata,
    Column("device", String(63), ForeignKey("device.id"), primary_key=True),
    Column("order", Text, nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    Column("key_epoch", BigInteger, nullable=False),
    # None once it need not be signed again.
    Column("expires_ms", BigInteger),
)
_DUE = desired.c.expires_ms.is_not(None)
Index("ix_desired_expires", desired.c.expires_ms, sqlite_where=_DUE, postgresql_where=_DUE)
Index("ix_desired_epoch", desired.c.key_epoch, sqlite_where=_DUE, postgresql_where=_DUE)

outgoing = Table(
    "outgoing",
    metadata,
    Column("id", _SERIAL, primary_key=True, autoincrement=True),
    Column("topic", String(255), nullable=False, index=True),
    Column("payload", LargeBinary, nullable=False),
    Column("retain", Boolean, nullable=False),
    # A number must not come back: the publisher removes by number what it has sent meanwhile.
    sqlite_autoincrement=True,
)

stream = Table(
    "stream",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("start", BigInteger, nullable=False),
    Column("mark", BigInteger, nullable=False),
    Column("head", BigInteger, nullable=False),
    Column("outbox", String(64), nullable=False),
    Column("samples", BigInteger, nullable=False),
    Column("events", BigInteger, nullable=False),
    Column("lost", BigInteger, nullable=False),
    Column("duplicates", BigInteger, nullable=False),
    Column("thinned", BigInteger, nullable=False),
    Column("rejected", BigInteger, nullable=False),
)

# Rows are found by time of receipt, the key by which PostgreSQL can partition them.
telemetry = Table(
    "telemetry",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("kind", String(8), nullable=False),
    Column("source", String(16)),
    Column("name", String(64)),
    Column("wall_ms", BigInteger),
    Column("row", Text, nullable=False),
    Index("ix_telemetry_device_received", "device", "kind", "received_ms"),
)
# At each start of an agent its rows without a time are looked for: few or none, among all that it ever sent.
_UNDATED = telemetry.c.wall_ms.is_(None)
Index(
    "ix_telemetry_undated",
    telemetry.c.device,
    telemetry.c.stream,
    telemetry.c.seq,
    sqlite_where=_UNDATED,
    postgresql_where=_UNDATED,
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("name", String(64), nullable=False),
    Column("secret_sha256", String(64), nullable=False, unique=True),
    Column("role", String(16), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("expires_ms", BigInteger),
    Column("revoked_ms", BigInteger),
    Column("used_ms", BigInteger),
)

# Append-only: the database itself refuses to change or remove a row (triggers, in the migration).
audit = Table(
    "audit",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("actor", String(128), nullable=False),
    Column("origin", String(128), nullable=False),
    Column("action", String(64), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("before", Text),
    Column("after", Text),
    Column("hash", String(64), nullable=False),
)

build_job = Table(
    "build_job",
    metadata,
    Column("id", String(32), primary_key=True),
    Column("model", String(64), nullable=False),
    Column("bundle", String(64), nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("created_by", String(128), nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("state", String(16), nullable=False, index=True),
    Column("version", String(64)),
    Column("attempt", Integer, nullable=False),
    Column("worker", String(64)),
    Column("lease_until_ms", BigInteger),
    Column("failure", Text),
)

build_event = Table(
    "build_event",
    metadata,
    Column("job", String(32), ForeignKey("build_job.id"), primary_key=True),
    Column("seq", Integer, primary_key=True, autoincrement=False),
    Column("event", Text, nullable=False),
)

dead_letter = Table(
    "dead_letter",
    metadata,
    Column("device", String(63), primary_key=True),
    Column("stream", String(64), primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("received_ms", BigInteger, nullable=False),
    Column("code", String(64), nullable=False),
    Column("raw", LargeBinary, nullable=False),
)

measurement = Table(
    "measurement",
    metadata,
    Column("hardware", String(255), primary_key=True),
    Column("runtime", String(64), primary_key=True),
    Column("runtime_version", String(32), primary_key=True),
    Column("threads", Integer, primary_key=True),
    Column("manifest", String(64), primary_key=True, index=True),
    Column("passed", Boolean, nullable=False),
    Column("latency_p50_us", Float),
    Column("device", String(63), primary_key=True),
    Column("measured_ms", BigInteger, nullable=False),
)
