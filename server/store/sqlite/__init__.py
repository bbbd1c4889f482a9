"""SQLite: transactions and locks (`dialect`), one process as the owner of a file (`file_lock`), backups."""
