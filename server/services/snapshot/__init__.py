"""The snapshot that Choose reads instead of the database, in memory and on disk."""
