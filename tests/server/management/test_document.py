"""The OpenAPI document, and the page that shows it."""

from __future__ import annotations

import re

from .rig import ManagementRig


def test_document_is_open_and_names_every_route(still: ManagementRig) -> None:
    document = still.get("/openapi.json", by="").get_json()
    assert document["openapi"].startswith("3.1")
    assert document["servers"] == [{"url": "/"}]
    named = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    there = {
        (method, re.sub(r"<(\w+)>", r"{\1}", rule.rule))
        for rule in still.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
        if rule.rule.startswith("/v1/")
    }
    assert named == there | {("POST", "/v1/verify")}
    for path, item in document["paths"].items():
        for operation in item.values():
            assert operation["security"] == [{"apiKey": []}, {"bearer": []}], path
            assert "Needs the scope `keydesk:" in operation["description"], path
            assert {"401", "403", "422", "503"} <= operation["responses"].keys(), path
    assert document["components"]["securitySchemes"]["apiKey"]["name"] == "X-API-Key"


def test_document_groups_what_it_lists(still: ManagementRig) -> None:
    """The page shows each group under its name."""
    paths = still.get("/openapi.json").json["paths"]
    tags = {tag for path in paths.values() for method in path.values() for tag in method["tags"]}
    assert tags == {"keys", "usage", "events", "plans"}


def test_document_refers_to_nothing_that_is_missing(still: ManagementRig) -> None:
    text = still.get("/openapi.json").get_data(as_text=True)
    names = set(re.findall(r'"#/components/schemas/([^"]+)"', text))
    assert names <= still.get("/openapi.json").get_json()["components"]["schemas"].keys()
    assert "$defs" not in text


def test_page_loads_only_what_is_here_and_runs_no_code_of_its_own(still: ManagementRig) -> None:
    page = still.get("/docs", by="")
    policy = page.headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy
    text = page.get_data(as_text=True)
    assert "http" not in text
    assert re.findall(r"<script(?![^>]*\bsrc=)|<style|\bon\w+=|style=", text) == []
    links = re.findall(r'(?:src|href)="([^"]+)"', text)
    links.remove("data:,")  # an empty icon, so that no browser asks for one
    assert len(links) == 4
    for link in links:
        found = still.get(f"/{link}", by="")
        assert found.status_code == 200, link
        assert found.headers["X-Content-Type-Options"] == "nosniff"
    assert "SwaggerUIBundle" in still.get("/docs/swagger-ui-bundle.js", by="").get_data(as_text=True)
    start = still.get("/docs/start.js", by="")
    assert start.mimetype == "text/javascript"
    assert "persistAuthorization: false" in start.get_data(as_text=True)


def test_page_and_document_set_no_cookie(still: ManagementRig) -> None:
    for path in ("/docs", "/openapi.json", "/docs/start.js", "/v1/keys"):
        assert "Set-Cookie" not in still.get(path).headers
