"""Rewards that are safe on disk, beside what the database driver alone achieves."""
