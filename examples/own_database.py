"""Keys inside the application's own Flask-SQLAlchemy database. Run it with:

flask --app examples/own_database.py run
"""

from flask import Flask
from flask_sqlalchemy import SQLAlchemy
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from keydesk.flask import Keydesk, current_key
from keydesk.stores import schema


class Base(DeclarativeBase):
    """The application's models."""


db = SQLAlchemy(model_class=Base)
keys = Keydesk()


class Order(db.Model):  # type: ignore[name-defined]
    """An order of a customer; the customer is the owner of the key that placed it."""

    id: Mapped[int] = mapped_column(primary_key=True)
    customer: Mapped[str]
    item: Mapped[str]


# The application's migrations (Flask-Migrate, or Alembic by itself) make these tables along with its own.
for table in schema.metadata.tables.values():
    table.to_metadata(db.metadata)


def create_app(database: str = "sqlite:///shop.db") -> Flask:
    """Make the application."""
    app = Flask(__name__)
    app.config["SQLALCHEMY_DATABASE_URI"] = database
    db.init_app(app)
    with app.app_context():
        keys.init_app(app, engine=db.engine)
        db.create_all()  # in a real application: flask db upgrade

    @app.post("/orders/<item>")
    @keys.require("orders:write")
    def order(item: str) -> tuple[dict[str, object], int]:
        placed = Order(customer=current_key.owner, item=item)
        db.session.add(placed)
        db.session.commit()
        return {"id": placed.id, "customer": placed.customer}, 201

    return app
