"""Clients in other processes: a pickled client travels as its arguments and opens its own channel there."""

from collections.abc import Mapping
from functools import partial


def reduced(kind: type, arguments: Mapping[str, object]) -> tuple[partial[object], tuple[()]]:
    """Return how to make a client of this kind with the same arguments, for `__reduce__`.

    Raises:
        TypeError: an argument must not be written down, or can't be.
    """
    if isinstance(arguments["token"], str):
        raise TypeError(
            f"a {kind.__name__} with its token in a string can't be pickled, since the pickle would show it: "
            "give the token as the path of a file"
        )
    if arguments["credentials"] is not None:
        raise TypeError(
            f"a {kind.__name__} with credentials can't be pickled: "
            "give the files of certificates as tls=Tls(...)"
        )
    return partial(kind, **arguments), ()
