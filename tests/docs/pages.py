"""Parser of the repository's Markdown pages: text, code blocks, links and anchors."""

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
        """The whole text."""
        return self.path.read_text()

    @cached_property
    def prose(self) -> str:
        """The text without code blocks."""
        return _FENCE.sub("", self.text)

    @cached_property
    def spans(self) -> list[str]:
        """Spans of code in the prose, with line breaks as spaces."""
        return [" ".join(span.split()) for _, span in _SPAN.findall(self.prose)]

    @cached_property
    def links(self) -> list[str]:
        """Targets of links and images, except those on the web."""
        targets = _LINK.findall(_SPAN.sub(_without_brackets, self.prose))
        return [target for target in targets if not re.match(r"[a-z]+:", target)]

    @cached_property
    def anchors(self) -> set[str]:
        """Anchors of the page, including those that GitHub makes from headings."""
        return {*_slugs(_HEADING.findall(self.prose)), *_ANCHOR.findall(self.prose)}

    @cached_property
    def languages(self) -> set[str]:
        """Languages of the code blocks."""
        return {language for language, _ in _FENCE.findall(self.text)}

    def blocks(self, language: str) -> list[str]:
        """Return the code blocks in a language."""
        return [block for own, block in _FENCE.findall(self.text) if own == language]

    @cached_property
    def code(self) -> str:
        """The code blocks only, with every line at its place in the page."""
        pieces, end = [], 0
        for match in _FENCE.finditer(self.text):
            pieces += ["\n" * self.text.count("\n", end, match.start(2)), match[2]]
            end = match.end(2)
        return "".join(pieces)


def _without_brackets(span: re.Match[str]) -> str:
    """Return a span of code in which nothing looks like a link."""
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
"""All pages for readers."""

README: Final = Page(ROOT / "README.md")
