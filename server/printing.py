"""Texts that came from elsewhere, made harmless to a terminal and a log."""


def printable(text: str) -> str:
    r"""Return any text on one line, with escapes for what a terminal might obey.

    >>> printable("key\x1b[31m")
    'key\\x1b[31m'
    """
    return "".join(letter if letter.isprintable() else repr(letter)[1:-1] for letter in text)
