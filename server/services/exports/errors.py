"""What keeps an export from being written."""


class ExportError(Exception):
    """Nothing was exported; the text is for the person who asked."""
