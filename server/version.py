"""The version of this code: what `--version` prints, and what servers tell one another."""

from typing import Final

VERSION: Final = "0.3.0"


def release_of(version: str) -> tuple[int, ...]:
    """The numbers of a version, to compare by; what follows them (a pre-release, a local part) is left out.

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
