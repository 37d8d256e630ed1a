"""A service that answers in words of its own. Run it with:

API_KEY=change-me-to-something-random flask --app examples/own_handlers.py run
"""

import os

from flask import Flask

from keydesk.flask import CredentialsInvalid, CredentialsMissing, Keydesk

app = Flask(__name__)
app.config["API_KEY"] = os.environ.get("API_KEY")
keys = Keydesk(app)


@app.get("/")
@keys.require()
def index() -> str:
    """Answer whoever holds the key."""
    return "Welcome."


@app.errorhandler(CredentialsMissing)
def ask_for_a_key(error: CredentialsMissing) -> tuple[str, int]:
    """Say where a key is to be had."""
    return "You need an API key. Write to api@example.com.", 401


@app.errorhandler(CredentialsInvalid)
def refuse_the_key(error: CredentialsInvalid) -> tuple[str, int]:
    """Say what is wrong with the key; `error.decision.reason` tells a wrong one from an expired one."""
    return f"Your API key does not work: {error.decision.reason}.", 401
