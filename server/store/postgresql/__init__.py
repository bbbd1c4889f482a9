"""PostgreSQL: its dialect, its errors, and what makes its commits durable."""
