"""What a header block can be refused for.

HpackError
└── ListTooLargeError
"""


class HpackError(Exception):
    """A header block breaks RFC 7541 or a limit of its decoder. The connection ends with COMPRESSION_ERROR.

    What follows the block cannot be read, since it refers to a table whose state is unknown.
    """


class ListTooLargeError(HpackError):
    """A header list is larger than the decoder allows. The connection ends with ENHANCE_YOUR_CALM.

    Attributes:
        max_bytes: How many bytes are allowed, counted as `Decoder.n_bytes` counts them.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        super().__init__(f"a header list has more than {max_bytes} bytes")
