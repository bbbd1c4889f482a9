"""The Markdown pages of the repository, taken apart: text, blocks of code, links, anchors."""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
_FOLDERS: Final = (".github", "bandit", "benchmarks", "protos", "server", "tests")

_FENCE: Final = re.compile(r"^```([a-z]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SPAN: Final = re.compile(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)
_LINK: Final = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]+)\)")
_HEADING: Final = re.compile(r"^#{1,6} +(.+?) *#*$", re.MULTILINE)
_ANCHOR: Final = re.compile(r"<a (?:id|name)=\"([^\"]+)\"")


@dataclass(frozen=True)
class Page:
    """A page of Markdown."""

    path: Path

    def __str__(self) -> str:
        return str(self.path.relative_to(ROOT))

    @cached_property
    def text(self) -> str:
        """All of it."""
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The page without its blocks of code."""
        return _FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """What stands between backticks in the prose, with line breaks as spaces."""
        return [" ".join(span.split()) for _, span in _SPAN.findall(self.prose)]

    @cached_property
    def links(self) -> list[str]:
        """Targets of links and images, except for those on the web."""
        targets = _LINK.findall(_SPAN.sub(_without_brackets, self.prose))
        return [target for target in targets if not re.match(r"[a-z]+:", target)]

    @cached_property
    def anchors(self) -> set[str]:
        """What a link may name behind a `#`, as GitHub makes it of headings."""
        return {*_slugs(_HEADING.findall(self.prose)), *_ANCHOR.findall(self.prose)}

    @cached_property
    def languages(self) -> set[str]:
        """Languages of the blocks of code."""
        return {language for language, _ in _FENCE.findall(self.text)}

    def blocks(self, language: str) -> list[str]:
        """The blocks of code in a language."""
        return [block for own, block in _FENCE.findall(self.text) if own == language]

    @cached_property
    def code(self) -> str:
        """The blocks of code alone, every line where it stands on the page."""
        pieces, end = [], 0
        for match in _FENCE.finditer(self.text):
            pieces += ["\n" * self.text.count("\n", end, match.start(2)), match[2]]
            end = match.end(2)
        return "".join(pieces)


def _without_brackets(span: re.Match[str]) -> str:
    """A span of code in which nothing looks like a link."""
    return re.sub(r"[\[\]()]", "", span[0])


def _slugs(headings: list[str]) -> Iterator[str]:
    seen = Counter[str]()
    for heading in headings:
        text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        slug = re.sub(r"[^\w\- ]", "", text).replace(" ", "-")
        yield f"{slug}-{seen[slug]}" if seen[slug] else slug
        seen[slug] += 1


PAGES: Final = [
    Page(path)
    for path in sorted(
        [*ROOT.glob("*.md"), *(path for name in _FOLDERS for path in (ROOT / name).rglob("*.md"))]
    )
]
"""Every page that people are meant to read."""

README: Final = Page(ROOT / "README.md")
