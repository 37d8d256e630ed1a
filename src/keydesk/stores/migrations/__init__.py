"""Room stores: the Alembic migrations of the tables, oldest first under versions/."""
