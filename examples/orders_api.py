"""The sample API behind `make demo` and `make sample`: orders, protected by keys in SQLite."""

from flask import Flask

from keydesk.flask import Keydesk, current_key

keys = Keydesk()


def create_app(store: str) -> Flask:
    """Make the application, with its keys in this store."""
    app = Flask(__name__)
    app.config["KEYDESK_STORE"] = store
    keys.init_app(app)

    @app.get("/orders")
    @keys.require("orders:read")
    def list_orders() -> dict[str, object]:
        return {"orders": ["bread", "tea"], "client": current_key.name}

    @app.post("/orders")
    @keys.require("orders:write")
    def place_order() -> tuple[dict[str, object], int]:
        return {"placed": True, "client": current_key.name}, 201

    return app
