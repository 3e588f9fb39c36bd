"""what devices measured of variants; rows without a time are found"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "measurement",
        sa.Column("hardware", sa.String(length=255), nullable=False),
        sa.Column("runtime", sa.String(length=64), nullable=False),
        sa.Column("runtime_version", sa.String(length=32), nullable=False),
        sa.Column("threads", sa.Integer(), nullable=False),
        sa.Column("manifest", sa.String(length=64), nullable=False),
        sa.Column("passed", sa.Boolean(), nullable=False),
        sa.Column("latency_p50_us", sa.Float(), nullable=True),
        sa.Column("device", sa.String(length=63), nullable=False),
        sa.Column("measured_ms", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint(
            "hardware",
            "runtime",
            "runtime_version",
            "threads",
            "manifest",
            "device",
            name=op.f("pk_measurement"),
        ),
    )
    with op.batch_alter_table("measurement", schema=None) as batch_op:
        batch_op.create_index(batch_op.f("ix_measurement_manifest"), ["manifest"], unique=False)
    undated = sa.text("wall_ms IS NULL")
    op.create_index(
        "ix_telemetry_undated",
        "telemetry",
        ["device", "stream", "seq"],
        sqlite_where=undated,
        postgresql_where=undated,
    )


def downgrade() -> None:
    op.drop_index("ix_telemetry_undated", "telemetry")
    op.drop_table("measurement")
