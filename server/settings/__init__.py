"""The settings of a server, with units, ranges and defaults.

`Settings(...)` reads its arguments only; `server.cli.framework.settings_sources` merges file, environment and
flags into them. `SettingsError` carries every message for the operator.
"""

from server.settings.rules import Settings, check_listen
from server.settings.values import ENVIRONMENT_PREFIX, MIB, SettingsError, SettingValues

__all__ = ["ENVIRONMENT_PREFIX", "MIB", "SettingValues", "Settings", "SettingsError", "check_listen"]
