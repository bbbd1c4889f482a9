"""How values stand in columns: instants, and sums of any size."""
