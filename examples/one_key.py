"""One key, from the environment. Run it with:

API_KEY=change-me-to-something-random flask --app examples/one_key.py run
"""

import os

from flask import Flask

from keydesk.flask import AccessDenied, Keydesk

app = Flask(__name__)
app.config["API_KEY"] = os.environ.get("API_KEY")  # unset or empty: nobody gets in
keys = Keydesk(app)


@app.get("/weather")
@keys.require()
def weather() -> dict[str, str]:
    """Answer whoever holds the key."""
    return {"weather": "fine"}


@app.errorhandler(401)
def unauthorized(error: AccessDenied) -> tuple[dict[str, object], int]:
    """Shape a refusal as this service shapes all of its errors."""
    return {"status": 401, "error": "Unauthorized", "message": error.description}, 401
