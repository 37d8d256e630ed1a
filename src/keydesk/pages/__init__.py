"""Room pages: administration in a browser, as a blueprint for any Flask application that has a Keydesk.

from keydesk.pages import make_pages
app.register_blueprint(make_pages(), url_prefix="/admin")
"""

from .blueprint import make_pages
from .people import Person

__all__ = ["Person", "make_pages"]
