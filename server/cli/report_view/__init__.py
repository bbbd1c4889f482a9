"""Views of a report: tables in a terminal, and an HTML page."""
