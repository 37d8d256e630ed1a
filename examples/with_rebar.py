"""An API of flask-rebar with two authenticators: a key from the environment, and a desk. Run it with:

METRICS_KEY=change-me-to-something-random flask --app examples/with_rebar.py run
"""

import os

from flask import Flask
from flask_rebar import Rebar, SwaggerV3Generator

from keydesk.contrib.rebar import HeaderApiKeyAuthenticator, KeydeskAuthenticator, get_authenticated_app_name
from keydesk.flask import Keydesk, current_key

app, rebar = Flask(__name__), Rebar()
keys = Keydesk(app)

metrics_keys = HeaderApiKeyAuthenticator(header="X-Metrics-Key", name="metricsKey")
if os.environ.get("METRICS_KEY"):
    metrics_keys.register_key(os.environ["METRICS_KEY"], app_name="prometheus")  # unset: nobody gets in

registry = rebar.create_handler_registry(
    swagger_generator=SwaggerV3Generator(), default_authenticators=[KeydeskAuthenticator(keys)]
)


@registry.handles(rule="/orders", method="GET")
def list_orders() -> dict[str, object]:
    """Answer whoever holds a key of the desk."""
    return {"orders": [], "for": current_key.name}


@registry.handles(rule="/orders", method="POST", authenticators=KeydeskAuthenticator(keys, scopes=["orders:write"]))
def add_order() -> tuple[dict[str, str], int]:
    """Answer whoever holds one with this scope."""
    return {"added": "tea"}, 201


@registry.handles(rule="/metrics", method="GET", authenticators=[metrics_keys, KeydeskAuthenticator(keys)])
def metrics() -> dict[str, object]:
    """Answer either."""
    return {"orders": 0, "for": current_key.name if current_key else get_authenticated_app_name()}


rebar.init_app(app)
