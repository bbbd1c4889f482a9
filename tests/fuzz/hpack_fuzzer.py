"""Header blocks for the coverage-guided fuzzer, decoded by us and by the `hpack` package.

```sh
python -m venv /tmp/fuzzing && /tmp/fuzzing/bin/pip install -q -e '.[test]' atheris
/tmp/fuzzing/bin/python -m tests.fuzz hpack /tmp/found tests/fuzz/corpus/hpack -max_total_time=180
```

New inputs go to the first folder, which must exist. The `test` extra lacks atheris, which has wheels for
Linux only. `tests/bandit/client/http2/test_corpus.py` replays the corpus without it.
"""

from typing import Final

from tests.bandit.client.http2.twin import Verdict, check_against_twin

TABLE_SIZES: Final = (4_096, 256, 64, 0)


def check(data: bytes) -> Verdict:
    """Decode the blocks of one connection twice, and fail if the results differ.

    Args:
        data: A byte that chooses one of `TABLE_SIZES`, then blocks, each behind a byte that has its length.
    """
    blocks = []
    rest = data[1:]
    while rest:
        end = 1 + rest[0]
        blocks.append(rest[1:end])
        rest = rest[end:]
    return check_against_twin(blocks, table_bytes=TABLE_SIZES[data[0] % len(TABLE_SIZES) if data else 0])
