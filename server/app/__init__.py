"""The application: runs the service, or one maintenance command, from its settings."""

from server.app.clock_maintenance import accept_clock, repair_clock, show_clock
from server.app.errors import StartupError
from server.app.maintenance import back_up, export, rebuild, verify
from server.app.supervisor import serve
from server.app.webhooks import list_deliveries, resend_deliveries

__all__ = [
    "StartupError",
    "accept_clock",
    "back_up",
    "export",
    "list_deliveries",
    "rebuild",
    "repair_clock",
    "resend_deliveries",
    "serve",
    "show_clock",
    "verify",
]
