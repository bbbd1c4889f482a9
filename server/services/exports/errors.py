"""Errors of exports."""


class ExportError(Exception):
    """Nothing was exported; the text is for the person who asked."""
