"""certificates, tokens of devices and people, the audit log"""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.add_column(sa.Column("revoked_ms", sa.BigInteger(), nullable=True))
    op.create_table(
        "certificate",
        sa.Column("serial", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("public_key_sha256", sa.String(length=64), nullable=False),
        sa.Column("issued_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=False),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificate")),
    )
    op.create_index(op.f("ix_certificate_device"), "certificate", ["device"], unique=False)
    _date_desired()
    _count_uses()
    _know_people()
    _keep_audit()


def _date_desired() -> None:
    """When older documents end is not known: they are signed again at once."""
    due = sa.text("expires_ms IS NOT NULL")
    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.add_column(sa.Column("key_epoch", sa.BigInteger(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("expires_ms", sa.BigInteger(), nullable=True))
    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.alter_column("key_epoch", existing_type=sa.BigInteger(), server_default=None)
    op.execute("UPDATE desired SET expires_ms = 0")
    for name, column in (("ix_desired_expires", "expires_ms"), ("ix_desired_epoch", "key_epoch")):
        op.create_index(name, "desired", [column], sqlite_where=due, postgresql_where=due)


def _count_uses() -> None:
    """A token that was used until now was for one device, and has had it."""
    used = (
        op.get_bind()
        .execute(
            sa.text(
                "SELECT secret_sha256, public_key_sha256, device, created_ms FROM enrolment "
                "WHERE public_key_sha256 IS NOT NULL AND device IS NOT NULL"
            )
        )
        .all()
    )
    op.execute("UPDATE enrolment SET device = NULL")
    with op.batch_alter_table("enrolment", schema=None) as batch_op:
        batch_op.add_column(sa.Column("uses_max", sa.Integer(), nullable=False, server_default="1"))
        batch_op.add_column(sa.Column("revoked_ms", sa.BigInteger(), nullable=True))
        batch_op.add_column(sa.Column("ca_sha256", sa.String(length=64), nullable=True))
        batch_op.drop_column("public_key_sha256")
    with op.batch_alter_table("enrolment", schema=None) as batch_op:
        batch_op.alter_column("uses_max", existing_type=sa.Integer(), server_default=None)
    uses = op.create_table(
        "enrolment_use",
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("public_key_sha256", sa.String(length=64), nullable=False),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("used_ms", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(
            ["secret_sha256"],
            ["enrolment.secret_sha256"],
            name=op.f("fk_enrolment_use_secret_sha256_enrolment"),
        ),
        sa.PrimaryKeyConstraint("secret_sha256", "public_key_sha256", name=op.f("pk_enrolment_use")),
    )
    op.bulk_insert(
        uses,
        [
            {"secret_sha256": secret, "public_key_sha256": key, "device": device, "used_ms": at_ms}
            for secret, key, device, at_ms in used
        ],
    )


def _forget_uses() -> None:
    """Older versions know one use of a token: its first."""
    used = (
        op.get_bind()
        .execute(
            sa.text(
                "SELECT secret_sha256, public_key_sha256, device FROM enrolment_use ORDER BY used_ms DESC"
            )
        )
        .all()
    )
    op.drop_table("enrolment_use")
    with op.batch_alter_table("enrolment", schema=None) as batch_op:
        batch_op.add_column(sa.Column("public_key_sha256", sa.String(length=64), nullable=True))
        batch_op.drop_column("ca_sha256")
        batch_op.drop_column("revoked_ms")
        batch_op.drop_column("uses_max")
    change = sa.text(
        "UPDATE enrolment SET device = :device, public_key_sha256 = :key WHERE secret_sha256 = :secret"
    )
    for secret, key, device in used:
        op.get_bind().execute(change, {"secret": secret, "key": key, "device": device})


def _know_people() -> None:
    op.create_table(
        "api_token",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("secret_sha256", sa.String(length=64), nullable=False),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("expires_ms", sa.BigInteger(), nullable=True),
        sa.Column("revoked_ms", sa.BigInteger(), nullable=True),
        sa.Column("used_ms", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_api_token")),
        sa.UniqueConstraint("secret_sha256", name=op.f("uq_api_token_secret_sha256")),
    )


def _keep_audit() -> None:
    op.create_table(
        "audit",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("at_ms", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.String(length=128), nullable=False),
        sa.Column("origin", sa.String(length=128), nullable=False),
        sa.Column("action", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("before", sa.Text(), nullable=True),
        sa.Column("after", sa.Text(), nullable=True),
        sa.Column("hash", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_audit")),
    )
    if op.get_bind().dialect.name == "sqlite":
        for change in ("UPDATE", "DELETE"):
            op.execute(
                f"CREATE TRIGGER audit_refuses_{change.lower()} BEFORE {change} ON audit "
                "BEGIN SELECT RAISE(ABORT, 'the audit log is append-only'); END"
            )
        return
    op.execute(
        "CREATE FUNCTION audit_refuses() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN RAISE EXCEPTION 'the audit log is append-only'; END $$"
    )
    op.execute(
        "CREATE TRIGGER audit_refuses BEFORE UPDATE OR DELETE OR TRUNCATE ON audit "
        "FOR EACH STATEMENT EXECUTE FUNCTION audit_refuses()"
    )


def downgrade() -> None:
    op.drop_table("audit")
    if op.get_bind().dialect.name != "sqlite":
        op.execute("DROP FUNCTION audit_refuses()")
    op.drop_table("api_token")
    _forget_uses()
    op.drop_table("certificate")
    for name in ("ix_desired_expires", "ix_desired_epoch"):
        op.drop_index(name, table_name="desired")
    with op.batch_alter_table("desired", schema=None) as batch_op:
        batch_op.drop_column("expires_ms")
        batch_op.drop_column("key_epoch")
    with op.batch_alter_table("device", schema=None) as batch_op:
        batch_op.drop_column("revoked_ms")
