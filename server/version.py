"""The version of this code, as `--version` prints it and servers exchange it."""

from typing import Final

VERSION: Final = "0.3.0"


def release_of(version: str) -> tuple[int, ...]:
    """Return the numbers of a version, for comparison, without a pre-release or local part.

    >>> release_of("0.3.0") < release_of("0.10.0rc1")
    True
    """
    numbers = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        numbers.append(int(digits))
        if digits != part:
            break
    return tuple(numbers)
