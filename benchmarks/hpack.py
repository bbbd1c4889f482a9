"""Cost of decoding header blocks, ours and the `hpack` package's, in this process and without a network.

`python -m benchmarks.hpack` decodes the blocks of 400 calls on one connection, in turns: nothing changes,
each call has what is left of a deadline, each call has another token. The encoder adds what is new to the
table, so that older entries are evicted and sent again.
"""

import random
import statistics
import string
import time
from collections.abc import Callable, Sequence
from typing import Final

import click
import hpack

from bandit.client.http2.hpack import Decoder, Field

_N_CALLS: Final = 400
_FIELDS: Final[tuple[Field, ...]] = (
    (b":method", b"POST"),
    (b":scheme", b"http"),
    (b":path", b"/bandit.v1.BanditService/Choose"),
    (b":authority", b"127.0.0.1:50051"),
    (b"te", b"trailers"),
    (b"content-type", b"application/grpc"),
    (b"user-agent", b"grpc-c++/1.76.0 grpc-c/51.0.0 (linux; chttp2)"),
    (b"grpc-accept-encoding", b"identity, deflate, gzip"),
)
_TOKEN_SYMBOLS: Final = string.ascii_letters + string.digits + "-_"


def _nothing(_: random.Random) -> list[Field]:
    return []


def _timeout(generator: random.Random) -> list[Field]:
    return [(b"grpc-timeout", b"%du" % generator.randrange(100_000, 1_000_000))]


def _token(generator: random.Random) -> list[Field]:
    token = "".join(generator.choices(_TOKEN_SYMBOLS, k=43))
    return [(b"authorization", f"Bearer {token}".encode())]


def _encode(changing: Callable[[random.Random], list[Field]], *, huffman: bool) -> list[bytes]:
    encoder = hpack.Encoder()
    generator = random.Random(7)
    return [encoder.encode([*_FIELDS, *changing(generator)], huffman=huffman) for _ in range(_N_CALLS)]


def _ours() -> Callable[[bytes], object]:
    return Decoder().decode


def _theirs() -> Callable[[bytes], object]:
    decoder = hpack.Decoder()
    return lambda block: decoder.decode(block, raw=True)


def _microseconds(make: Callable[[], Callable[[bytes], object]], blocks: Sequence[bytes]) -> float:
    decode = make()
    began_at = time.process_time()
    for block in blocks:
        decode(block)
    return (time.process_time() - began_at) / len(blocks) * 1e6


@click.command()
@click.option("--rounds", default=50, show_default=True, help="Rounds of each, in turns.")
def main(rounds: int) -> None:
    """Print the CPU time of a block for our decoder and the package's, median and least, and the ratio."""
    for title, changing in (("nothing changes", _nothing), ("timeout", _timeout), ("token", _token)):
        for huffman in (False, True):
            blocks = _encode(changing, huffman=huffman)
            pairs = [(_microseconds(_ours, blocks), _microseconds(_theirs, blocks)) for _ in range(rounds)]
            ours, theirs = (f"{statistics.median(side):.2f} us" for side in zip(*pairs, strict=True))
            least_of_ours, least_of_theirs = (f"{min(side):.2f}" for side in zip(*pairs, strict=True))
            ratio = statistics.median(their / our for our, their in pairs)
            click.echo(
                f"{title}, {'Huffman' if huffman else 'plain'}: ours {ours} (least {least_of_ours}), "
                f"hpack {theirs} (least {least_of_theirs}), ratio {ratio:.1f}"
            )


if __name__ == "__main__":
    main()
