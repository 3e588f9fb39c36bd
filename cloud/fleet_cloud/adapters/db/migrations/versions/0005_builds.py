"""jobs for shared build workers"""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "build_job",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("model", sa.String(length=64), nullable=False),
        sa.Column("bundle", sa.String(length=64), nullable=False),
        sa.Column("created_ms", sa.BigInteger(), nullable=False),
        sa.Column("created_by", sa.String(length=128), nullable=False),
        sa.Column("updated_ms", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("version", sa.String(length=64), nullable=True),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("worker", sa.String(length=64), nullable=True),
        sa.Column("lease_until_ms", sa.BigInteger(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_build_job")),
    )
    op.create_index(op.f("ix_build_job_state"), "build_job", ["state"], unique=False)
    op.create_table(
        "build_event",
        sa.Column("job", sa.String(length=32), nullable=False),
        sa.Column("seq", sa.Integer(), nullable=False),
        sa.Column("event", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["job"], ["build_job.id"], name=op.f("fk_build_event_job_build_job")),
        sa.PrimaryKeyConstraint("job", "seq", name=op.f("pk_build_event")),
    )


def downgrade() -> None:
    op.drop_table("build_event")
    op.drop_index(op.f("ix_build_job_state"), table_name="build_job")
    op.drop_table("build_job")
