"""MovieLens-100k, fetched on demand: 100,000 ratings of films, by 943 people, 1997 to 1998.

Harper & Konstan 2015, *The MovieLens Datasets: History and Context*. The data has its own licence, so it is
not here: it is in the wheel of `recbole`, which pip downloads once into a cache.
"""

import csv
import io
import re
import subprocess
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PACKAGE: Final = "recbole==1.2.1"
CACHE: Final = Path.home() / ".cache" / "bandit-allocator"
_WHEEL: Final = "recbole-1.2.1-*.whl"
_FOLDER: Final = "recbole/dataset_example/ml-100k"
_DOWNLOAD_SECONDS: Final = 180
_GOOD_RATING: Final = 4.0


class DataUnavailableError(Exception):
    """The ratings are unavailable; the text is the cause, in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Film:
    """A film and its ratings.

    Attributes:
        arm: The id of its arm, from its title.
        title: As MovieLens has it.
        rewards: For each rating of it, 1 if it was at least 4 of 5, else 0.
    """

    arm: str
    title: str
    rewards: tuple[int, ...]

    @property
    def mean(self) -> float:
        """The logged mean: the share of good ratings."""
        return sum(self.rewards) / len(self.rewards)


def fetch(cache: Path = CACHE) -> Path:
    """Return the wheel that holds the ratings, downloaded unless it is in the cache.

    Raises:
        DataUnavailableError: pip could not download it.
    """
    cache.mkdir(parents=True, exist_ok=True)
    if not (found := sorted(cache.glob(_WHEEL))):
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--no-deps",
            "--quiet",
            "--dest",
            str(cache),
            PACKAGE,
        ]
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=_DOWNLOAD_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise DataUnavailableError(
                f"can't fetch MovieLens-100k: pip download {PACKAGE} took more than {_DOWNLOAD_SECONDS} s"
            ) from None
        found = sorted(cache.glob(_WHEEL))
        if done.returncode != 0 or not found:
            cause = (done.stderr.strip().splitlines() or ["pip gave no reason"])[-1]
            raise DataUnavailableError(f"can't fetch MovieLens-100k: pip download {PACKAGE}: {cause}")
    return found[0]


def most_rated(wheel: Path, n_films: int) -> list[Film]:
    """Return the films with the most ratings, most first.

    Raises:
        DataUnavailableError: The wheel does not hold them.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            rewards = _read_rewards(archive)
            titles = {row["item_id"]: row["movie_title"] for row in _rows(archive, "item")}
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise DataUnavailableError(f"can't read MovieLens-100k from {wheel}: {error}") from error
    items = sorted(rewards, key=lambda item: (-len(rewards[item]), item))[:n_films]
    return [
        Film(arm=arm_id(titles[item]), title=titles[item], rewards=tuple(rewards[item])) for item in items
    ]


def arm_id(title: str) -> str:
    """Return an arm id made from a title.

    >>> arm_id("Independence Day (ID4)")
    'independence-day-id4'
    """
    return re.sub(r"[^a-z0-9]+", "-", title.lower()).strip("-")[:63]


def _read_rewards(archive: zipfile.ZipFile) -> dict[str, list[int]]:
    rewards: defaultdict[str, list[int]] = defaultdict(list)
    for row in _rows(archive, "inter"):
        rewards[row["item_id"]].append(int(float(row["rating"]) >= _GOOD_RATING))
    return rewards


def _rows(archive: zipfile.ZipFile, kind: str) -> Iterator[dict[str, str]]:
    """Return the rows of a tab-separated file, whose headings have the form `name:type`."""
    with archive.open(f"{_FOLDER}/ml-100k.{kind}") as file:
        lines = csv.reader(io.TextIOWrapper(file, encoding="utf-8"), delimiter="\t", quoting=csv.QUOTE_NONE)
        names = [heading.partition(":")[0] for heading in next(lines)]
        for line in lines:
            yield dict(zip(names, line, strict=True))
