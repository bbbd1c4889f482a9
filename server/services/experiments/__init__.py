"""Experiments: their lifecycle, and the epochs that the allocator begins."""
