"""Room server: the OpenAPI document (3.1), and the page that shows it, whose scripts and styles are in the package.

Both are open to everybody. The page holds no code of its own (CSP), and loads nothing from elsewhere.
"""

from __future__ import annotations

import copy
import json
from functools import cache
from importlib.resources import files
from typing import Any

from flask import Response
from flask_openapi3.models.schema import Schema
from flask_openapi3.openapi import OpenAPI
from werkzeug.exceptions import NotFound

from ...decision import Reason
from ...flask.current import real_request
from ...flask.extension import Keydesk
from .models import Problem

_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE_HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}
_ASSETS = {
    "swagger-ui.css": ("css", "text/css"),
    "swagger-ui-bundle.js": ("js", "text/javascript"),
}
# Relative, so that it works under whatever path the server is mounted.
_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Keydesk: management API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs/swagger-ui.css">
</head>
<body>
<div id="page"></div>
<noscript>This page needs JavaScript. The same is in <a href="openapi.json">openapi.json</a>.</noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json", dom_id: "#page", deepLinking: true, validatorUrl: null, persistAuthorization: false
});
"""
_VERIFY: dict[str, Any] = {
    "post": {
        "operationId": "verify_secret",
        "tags": ["keys"],
        "summary": "Say whether the holder of a secret may pass, and take it from the limits of its key if so.",
        "description": "A denial is an answer too, with 200.\n\nNeeds the scope `keydesk:verify`.",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["secret"],
                        "additionalProperties": False,
                        "properties": {
                            "secret": {"type": "string", "maxLength": 256},
                            "scopes": {"type": "array", "items": {"type": "string", "maxLength": 128}},
                            "client_address": {"anyOf": [{"type": "string", "maxLength": 64}, {"type": "null"}]},
                            "cost": {"type": "integer", "minimum": 0, "maximum": 1_000_000},
                        },
                    }
                }
            },
        },
        "responses": {
            "200": {
                "description": "The decision",
                "content": {
                    "application/json": {
                        "schema": {
                            "type": "object",
                            "required": ["allowed", "reason", "key", "limits"],
                            "properties": {
                                "allowed": {"type": "boolean"},
                                "reason": {"enum": [None, *(reason.value for reason in Reason)]},
                                "key": {"type": ["object", "null"]},
                                "limits": {"type": ["array", "null"]},
                            },
                        }
                    }
                },
            }
        },
    }
}


def add_document(app: OpenAPI, keys: Keydesk) -> None:
    """Put in the document and its page."""
    made: list[dict[str, Any]] = []

    @keys.public
    def openapi_json() -> Response:
        if not made:
            made.append(_document(app))
        root = real_request().script_root
        return Response(json.dumps(made[0] | {"servers": [{"url": root or "/"}]}) + "\n", mimetype="application/json")

    @keys.public
    def docs() -> Response:
        return Response(_PAGE, mimetype="text/html", headers=_PAGE_HEADERS)

    @keys.public
    def docs_start() -> Response:
        return Response(_START, mimetype="text/javascript", headers=_PAGE_HEADERS)

    @keys.public
    def docs_asset(name: str) -> Response:
        if name not in _ASSETS:
            raise NotFound
        headers = {**_PAGE_HEADERS, "Cache-Control": "public, max-age=86400"}
        return Response(_asset(name), mimetype=_ASSETS[name][1], headers=headers)

    app.add_url_rule("/openapi.json", view_func=openapi_json)
    app.add_url_rule("/docs", view_func=docs)
    app.add_url_rule("/docs/start.js", view_func=docs_start)
    app.add_url_rule("/docs/<name>", view_func=docs_asset)


@cache
def _asset(name: str) -> bytes:
    return (files("flask_openapi3_swagger") / "templates" / "swagger" / _ASSETS[name][0] / name).read_bytes()


def _document(app: OpenAPI) -> dict[str, Any]:
    app.components_schemas["Problem"] = Schema(**Problem.model_json_schema())
    document = copy.deepcopy(app.api_doc)
    document["components"]["schemas"].pop("ValidationErrorModel", None)
    problems = document["paths"]["/v1/usage"]["get"]["responses"]
    verify = copy.deepcopy(_VERIFY)
    verify["post"]["security"] = document["paths"]["/v1/usage"]["get"]["security"]
    verify["post"]["responses"] |= {code: answer for code, answer in problems.items() if code != "200"}
    document["paths"]["/v1/verify"] = verify
    return document
