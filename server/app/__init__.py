"""The application: settings in, a running service or a finished piece of maintenance out."""

from server.app.errors import StartupError
from server.app.maintenance import back_up, rebuild, verify
from server.app.serving import serve

__all__ = ["StartupError", "back_up", "rebuild", "serve", "verify"]
