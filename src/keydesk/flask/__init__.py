"""Room flask, door 1: API keys for a Flask application.

from flask import Flask
from keydesk.flask import Keydesk, current_key

app = Flask(__name__)
keys = Keydesk(app)

@app.get("/orders")
@keys.require("orders:read")
def orders():
    return {"client": current_key.name}
"""

from .current import current_key
from .exceptions import (
    AccessDenied,
    CredentialsDuplicated,
    CredentialsInvalid,
    CredentialsMissing,
    LimitExceeded,
    NetworkDenied,
    ScopeDenied,
    StoreUnavailable,
)
from .extension import Keydesk
from .signals import key_accepted, key_denied

__all__ = [
    "Keydesk", "current_key", "key_accepted", "key_denied",
    "AccessDenied", "CredentialsMissing", "CredentialsInvalid", "CredentialsDuplicated", "ScopeDenied",
    "NetworkDenied", "LimitExceeded", "StoreUnavailable",
]  # fmt: skip
