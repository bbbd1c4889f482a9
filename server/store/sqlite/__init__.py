"""SQLite: its dialect, the ownership of its file, and backups."""
