"""The keys that sign decisions: loaded, rotated, and kept on disk."""
