"""Clients hold keys already: UUIDs, MD5 hex, URL-safe base64. They go on working. Run it with:

export FLASK_APP=examples/import_keys/app.py
flask keys import examples/import_keys/keys.csv
flask run
"""

from flask import Flask

from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
app.config.from_prefixed_env()
keys = Keydesk(app)


@app.get("/orders")
@keys.require(any_of=["orders:read", "orders:write"])
def orders() -> dict[str, object]:
    """Say who called."""
    return {"orders": [], "for": current_key.name, "owner": current_key.owner}
