"""The pages as somebody's browser sees them: a client that keeps cookies, reads forms and sends them back."""

from __future__ import annotations

import html
import re
from typing import Any

from werkzeug.test import Client, TestResponse

BASE = "https://desk.example"
_TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')
_HIDDEN = re.compile(r'<input type="hidden" name="([^"]+)" value="([^"]*)">')


class Browser:
    """Somebody's browser. `posts` of a form carry what is hidden in the page that was looked at last."""

    def __init__(self, application: Any, address: str = "203.0.113.7") -> None:
        self.client = Client(application)
        self.address = address
        self.page = ""

    def get(self, path: str, **headers: str) -> TestResponse:
        answer = self.client.get(path, base_url=BASE, headers=headers, environ_base={"REMOTE_ADDR": self.address})
        self.page = answer.get_data(as_text=True)
        answer.close()
        return answer

    def post(self, path: str, headers: dict[str, str] | None = None, **fields: str) -> TestResponse:
        hidden = {name: html.unescape(value) for name, value in _HIDDEN.findall(self.page)}
        answer = self.client.post(
            path,
            base_url=BASE,
            data={**hidden, **fields},
            headers=headers or {},
            environ_base={"REMOTE_ADDR": self.address},
        )
        self.page = answer.get_data(as_text=True)
        return answer

    def sign_in(self, secret: str) -> TestResponse:
        self.get("/admin/sign-in")
        return self.post("/admin/sign-in", secret=secret)

    def shows(self, text: str) -> bool:
        """Whether a text stands in the page as text, escaped."""
        return html.escape(text, quote=False) in self.page or html.escape(text) in self.page.replace("&#34;", "&quot;")

    def token(self) -> str:
        found = _TOKEN.search(self.page)
        assert found is not None
        return found[1]
