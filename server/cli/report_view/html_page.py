"""A report as one HTML page that needs no network: the terminal's tables and sentences, and plots."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Final

from bandit.v1.experiment_pb2 import Report
from server.cli.framework.console import local_time
from server.cli.framework.errors import CommandError
from server.cli.report_view.plots import Plot, plots
from server.cli.report_view.sections import Section, heading, sections
from server.cli.report_view.tables import Table, belief_table, evidence_tables

_STYLE: Final = """
body { font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff; margin: 0 auto;
  max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
.verdict { border-left: .4rem solid #0072b2; padding: .5rem 1rem; background: #f2f7fb; font-weight: 600; }
.wide { overflow-x: auto; } svg { width: 100%; max-width: 38rem; height: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem; }
caption { text-align: left; font-weight: 600; padding: .3rem 0; white-space: nowrap; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid #ddd; text-align: right; white-space: nowrap; }
th:first-child, td:first-child { text-align: left; } figure { margin: 0; }
figcaption, footer { color: #555; font-size: .9rem; }
"""
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def render_page(report: Report) -> str:
    """Return the page: well-formed XML after its doctype, every text escaped."""
    title = escape(f"Report on {report.experiment}")
    parts = [
        f"<h1>{escape(heading(report))}</h1>",
        f'<p class="verdict">{escape(report.verdict.headline)}</p>',
        *(_figure(plot) for plot in plots(report)),
        *(_table(table) for table in (belief_table(report), *evidence_tables(report))),
        *(_section(section) for section in sections(report)),
        f"<footer>As of {escape(local_time(report.report_time))}.</footer>",
    ]
    body = "\n".join(parts)
    return (
        "<!DOCTYPE html>\n"
        '<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f"<title>{title}</title><style>{_STYLE}</style></head>\n<body>\n{body}\n</body></html>\n"
    )


def write_page(report: Report, file: Path) -> None:
    """Write the page to a file.

    Raises:
        CommandError: It can't be written.
    """
    text = render_page(report)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{file}: {(error.strerror or 'cannot be written').lower()}") from error


def _figure(plot: Plot) -> str:
    caption = escape(plot.caption)
    return (
        f"<section><h2>{escape(plot.title)}</h2><figure>{plot.svg}<figcaption>{caption}</figcaption></figure>"
        "</section>"
    )


def _table(table: Table) -> str:
    headings = _row("th", [column.heading for column in table.columns])
    body = "".join(_row("td", row.cells) for row in table.rows)
    caption = f"<caption>{escape(table.title)}</caption>" if table.title else ""
    return f'<div class="wide"><table>{caption}<thead>{headings}</thead><tbody>{body}</tbody></table></div>'


def _row(tag: str, cells: Sequence[str]) -> str:
    shown = (escape(cell).replace("\n", "<br/>") for cell in cells)
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in shown) + "</tr>"


def _section(section: Section) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in section.lines)
    return f"<section><h2>{escape(section.title)}</h2><ul>{items}</ul></section>"
