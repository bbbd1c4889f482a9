"""The application: settings in, a running service or a finished piece of maintenance out."""

from server.app.errors import StartupError
from server.app.maintenance import export, rebuild, verify
from server.app.supervising import serve

__all__ = ["StartupError", "export", "rebuild", "serve", "verify"]
