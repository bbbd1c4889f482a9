"""SQLite: its dialect, its files and their ownership, and backups."""
