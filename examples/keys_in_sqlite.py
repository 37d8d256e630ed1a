"""Keys in SQLite, some bound to one address. Run it, and handle keys beside it, with:

export FLASK_APP=examples/keys_in_sqlite.py
flask keys issue "Warehouse" --network 127.0.0.1 --description "The scanner at the gate"
flask keys issue "Partner" --network 0.0.0.0/0
flask keys list
flask keys show ID
flask keys revoke ID && flask keys delete ID
flask run

Without a setting, the database is `keydesk.db` in the instance folder.
"""

from flask import Flask

from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
# Some clients cannot set a header. Off unless named, since URLs end up in logs; Keydesk blanks it in those of
# Werkzeug and Gunicorn.
app.config["KEYDESK_QUERY_PARAMETER"] = "api_key"
app.config.from_prefixed_env()  # FLASK_KEYDESK_STORE=sqlite:////var/lib/stock/keys.db
keys = Keydesk(app)
keys.protect(app)  # every view needs a key, also those added later


@app.get("/stock")
def stock() -> dict[str, object]:
    """Say what is there, and to whom."""
    return {"boxes": 7, "for": current_key.name, "about": current_key.description}


@app.get("/health")
@keys.public
def health() -> dict[str, bool]:
    """Answer everybody."""
    return {"ok": True}
