"""The application: settings in, a running service or a finished piece of maintenance out."""

from server.app.errors import StartupError
from server.app.maintenance import back_up, export, rebuild, verify
from server.app.supervising import serve

__all__ = ["StartupError", "back_up", "export", "rebuild", "serve", "verify"]
