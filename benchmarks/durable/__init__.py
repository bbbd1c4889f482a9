"""Durable rewards, compared with what the database driver alone achieves."""
