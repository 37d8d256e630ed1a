"""Room server: door 2, the stand-alone server: forward-auth, verify and management, as one WSGI application (PEP 3333).

    granian --interface wsgi --factory keydesk.server:create_app

or in a Flask application, under a path:

    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, {"/keydesk": keydesk.server.create_app()})
"""

from .app import Server, create_app

__all__ = ["Server", "create_app"]
