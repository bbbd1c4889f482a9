"""Errors of exports."""


class ExportError(Exception):
    """Nothing was exported; the message is for the person who asked."""
