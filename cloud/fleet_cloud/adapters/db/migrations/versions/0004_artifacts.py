"""what a version keeps for people: reports, models as Keras saves them"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Versions from before have none."""
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.add_column(sa.Column("artifacts", sa.Text(), nullable=False, server_default="{}"))
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.alter_column("artifacts", existing_type=sa.Text(), server_default=None)


def downgrade() -> None:
    """The blobs stay in the store; which was what is forgotten."""
    with op.batch_alter_table("model_version", schema=None) as batch_op:
        batch_op.drop_column("artifacts")
