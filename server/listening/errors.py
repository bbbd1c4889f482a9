"""Why a server can't listen."""


class ListenError(Exception):
    """The server can't listen at `address`, for `reason`."""

    def __init__(self, address: str, reason: str) -> None:
        self.address = address
        self.reason = reason
        super().__init__(f"can't listen at {address}: {reason}")
