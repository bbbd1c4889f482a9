"""A report for people: tables in a terminal, and an HTML page."""
