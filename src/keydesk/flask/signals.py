"""Room flask: signals (blinker). The sender is the application; `decision` is `Allowed` or `Denied`."""

from blinker import Namespace

_namespace = Namespace()

key_accepted = _namespace.signal("keydesk.key-accepted")
"""Sent once for each request whose key was accepted."""

key_denied = _namespace.signal("keydesk.key-denied")
"""Sent once for each refusal."""
