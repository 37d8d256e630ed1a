"""Room server: the management API under `/v1`, its OpenAPI document and the page that shows it."""

from .app import make_management

__all__ = ["make_management"]
