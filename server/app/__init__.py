"""The application: runs the service, or one maintenance command, from its settings."""

from server.app.clock_maintenance import accept_clock, repair_clock, show_clock
from server.app.errors import StartupError
from server.app.maintenance import back_up, export, rebuild, verify
from server.app.supervisor import serve

__all__ = [
    "StartupError",
    "accept_clock",
    "back_up",
    "export",
    "rebuild",
    "repair_clock",
    "serve",
    "show_clock",
    "verify",
]
