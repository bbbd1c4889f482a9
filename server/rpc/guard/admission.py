"""An admitted caller, and how long the admission holds."""

from typing import NamedTuple

from server.services.access.callers import Caller, Directory
from server.services.access.rate_limit import Bucket


class Admission(NamedTuple):
    """An admitted caller.

    Attributes:
        caller: The caller.
        bucket: The caller's permits; None without a rate limit.
    """

    caller: Caller
    bucket: Bucket | None

    def charge(self, n_items: int) -> None:
        """Charge the items of a batch; the first was charged with the call itself."""
        if self.bucket is not None:
            self.bucket.charge(n_items - 1)


class Identity(NamedTuple):
    """What a peer was found to be, which holds as long as the callers stay the same.

    Attributes:
        directory: The callers among whom it was found.
        admission: The caller.
    """

    directory: Directory
    admission: Admission
