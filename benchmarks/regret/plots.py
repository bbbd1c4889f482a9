"""Plots of regret and of the best arm's share, as PNG files and one page that embeds them."""

import base64
import importlib
from collections.abc import Iterator, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Final

from benchmarks.regret.results import Result
from benchmarks.regret.tables import HEADINGS, HOW_TO_READ, cells, heading

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAGE: Final = "regret.html"
_BAND_ERRORS: Final = 1.96
_STYLE: Final = (
    "body{font:15px/1.5 system-ui,sans-serif;max-width:64rem;margin:2rem auto;padding:0 1rem}"
    "img{max-width:100%}table{border-collapse:collapse}td,th{padding:.15rem .7rem;text-align:right}"
    "td:first-child,th:first-child{text-align:left}tr:nth-child(even){background:#f4f4f4}"
)


class PlotsUnavailableError(Exception):
    """Plots need matplotlib, which is not installed: pip install 'bandit-allocator[benchmarks]'."""

    def __init__(self) -> None:
        super().__init__(self.__doc__)


def require_plots() -> None:
    """Raise PlotsUnavailableError if matplotlib can't be imported."""
    try:
        importlib.import_module("matplotlib").use("Agg")
    except ImportError as error:
        raise PlotsUnavailableError from error


def write_plots(results: Sequence[Result], folder: Path, command: str) -> list[Path]:
    """Write a PNG for each problem and one page with all plots and tables.

    Args:
        results: Results to show, grouped by problem.
        folder: Folder of the files; created if it does not exist.
        command: Command that reproduces them.

    Returns:
        The files, the page last.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    sections = []
    for title, group in groupby(results, key=lambda result: result.title):
        of_problem = list(group)
        picture = folder / f"{title}.png"
        _draw(of_problem, picture)
        pictures.append(picture)
        sections.append(_section(of_problem, picture))
    page = folder / PAGE
    page.write_text(_page("\n".join(sections), command), encoding="utf-8")
    return [*pictures, page]


def _draw(results: Sequence[Result], file: Path) -> None:
    # Imported here, as matplotlib is only needed for plots.
    figure_module = importlib.import_module("matplotlib.figure")
    figure = figure_module.Figure(figsize=(11, 4.2), layout="constrained")
    regret, share = figure.subplots(1, 2)
    for result in results:
        _draw_result(result, regret, share)
    regret.set(xlabel="round", ylabel="regret", title="Regret, mean ± 1.96 standard errors")
    share.set(xlabel="round", ylabel="share", title="Share of the best arm up to a round", ylim=(0, 1.02))
    share.set_xscale("log")
    regret.legend(fontsize="small")
    figure.suptitle(heading(results[0]))
    figure.savefig(file, dpi=110, metadata={"Software": None})


def _draw_result(result: Result, regret: "Axes", share: "Axes") -> None:
    measured = result.measured
    mean, half = measured.regret.mean, _BAND_ERRORS * measured.regret.standard_error
    (line,) = regret.plot(measured.checkpoints, mean, label=result.match.entrant.label)
    regret.fill_between(measured.checkpoints, mean - half, mean + half, color=line.get_color(), alpha=0.25)
    best, half = measured.share_of_best.mean, _BAND_ERRORS * measured.share_of_best.standard_error
    share.plot(measured.checkpoints, best, color=line.get_color())
    share.fill_between(measured.checkpoints, best - half, best + half, color=line.get_color(), alpha=0.25)


def _section(results: Sequence[Result], picture: Path) -> str:
    title = escape(heading(results[0]))
    data = base64.b64encode(picture.read_bytes()).decode("ascii")
    rows = "".join(_row("td", cells(result)) for result in results)
    return (
        f"<h2>{title}</h2>\n<img alt='{title}' src='data:image/png;base64,{data}'>\n"
        f"<table>{_row('th', HEADINGS)}{rows}</table>"
    )


def _row(tag: str, texts: Sequence[str]) -> str:
    return f"<tr>{''.join(_cells(tag, texts))}</tr>"


def _cells(tag: str, texts: Sequence[str]) -> Iterator[str]:
    return (f"<{tag}>{escape(text)}</{tag}>" for text in texts)


def _page(sections: str, command: str) -> str:
    return (
        f"<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>Regret</title>"
        f"<style>{_STYLE}</style></head>\n<body><h1>Regret</h1>\n<p><code>{escape(command)}</code></p>\n"
        f"<p>{escape(HOW_TO_READ)}.</p>\n{sections}\n</body></html>\n"
    )
