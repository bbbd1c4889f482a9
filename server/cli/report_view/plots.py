"""The plots of a report's page: shares over time, means with their bounds, posteriors. Each is inline SVG.

Colours are those of Okabe & Ito (2008), which colour-blind readers can distinguish, and lines differ in their
dashes as well.
"""

import io
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy
from google.protobuf.timestamp_pb2 import Timestamp
from numpy.typing import NDArray

from bandit.posteriors import (
    BetaPosterior,
    GammaPosterior,
    NormalPosterior,
    Posterior,
    StudentTPosterior,
)
from bandit.v1 import evidence_pb2
from bandit.v1.experiment_pb2 import ArmReport, Report
from server.cli.framework.console import in_local_zone, zone_text
from server.cli.framework.errors import CommandError
from server.cli.report_view.tables import metric_of, other_metrics

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MOST_ARMS: Final = 8
"""More lines could not be distinguished: the champion and the arms with the largest shares are drawn."""

_COLOURS: Final = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c8c00")
_DASHES: Final = ("-", "--", "-.", ":")
_SIZE: Final = (5.6, 3.6)
_FONT_SIZE: Final = 12
_BACKEND: Final = "MPLBACKEND"
_MISSING: Final = "plots need matplotlib: pip install 'bandit-allocator[plots]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """One plot.

    Attributes:
        title: Its heading.
        caption: An explanation for the reader.
        svg: The drawing, as an `svg` element.
    """

    title: str
    caption: str
    svg: str


def require_matplotlib() -> None:
    """Load what draws plots, whatever backend the environment asks for: a notebook has its own.

    Raises:
        CommandError: matplotlib is missing, or a `matplotlibrc` keeps it from loading; the message is the
            command that installs it, or the reason.
    """
    if find_spec("matplotlib") is None:
        raise CommandError(_MISSING)
    backend = os.environ.pop(_BACKEND, None)
    try:
        import_module("matplotlib")
    except (ValueError, OSError) as error:
        reason = str(error).partition("\n")[0]
        raise CommandError(
            f"matplotlib can't be loaded: {reason}: correct or remove its matplotlibrc"
        ) from error
    finally:
        if backend is not None:
            os.environ[_BACKEND] = backend


def plots(report: Report) -> list[Plot]:
    """Draw shares, then each metric's means over time if any, then the reward metric's posteriors."""
    arms = _chosen(report)
    left_out = (
        f" The {len(arms)} arms with the largest shares of {len(report.arms):,}."
        if len(arms) < len(report.arms)
        else ""
    )
    found = []
    if report.epochs:
        found.append(_shares(report, arms, left_out))
    names = (report.reward_metric, *other_metrics(report))
    found += [_means(arms, name) for name in names if any(metric_of(arm, name).looks for arm in arms)]
    if any(metric_of(arm, report.reward_metric).HasField("posterior") for arm in arms):
        found.append(_posteriors(report, arms, left_out))
    return found


def _chosen(report: Report) -> list[ArmReport]:
    """Return the arms to draw, in the order of the report."""
    ranked = sorted(report.arms, key=lambda arm: (arm.arm != report.champion, -arm.share))
    names = {arm.arm for arm in ranked[:MOST_ARMS]}
    return [arm for arm in report.arms if arm.arm in names]


def _shares(report: Report, arms: Sequence[ArmReport], left_out: str) -> Plot:
    moments = [_moment(epoch.start_time) for epoch in report.epochs]
    moments.append(max(_moment(report.report_time), moments[-1]))

    def draw(axes: "Axes") -> None:
        for index, arm in enumerate(arms):
            shares = [
                100 * epoch.shares[arm.arm] if arm.arm in epoch.shares else None for epoch in report.epochs
            ]
            axes.step(moments, [*shares, shares[-1]], where="post", **_look(index, arm))  # type: ignore[arg-type]  # gaps
        axes.set_ylim(0, 100)
        axes.set_ylabel("share, %")

    caption = f"The share of each arm in each epoch; a line begins where the arm was added.{left_out}"
    return Plot(title="Shares over time", caption=caption, svg=_drawn(draw, "shares", is_dated=True))


def _means(arms: Sequence[ArmReport], name: str) -> Plot:
    def draw(axes: "Axes") -> None:
        for index, arm in enumerate(arms):
            looks = metric_of(arm, name).looks
            if not looks:
                continue
            moments = [_moment(look.time) for look in looks]
            look = _look(index, arm)
            axes.plot(moments, [look.value for look in looks], **look)  # type: ignore[arg-type]  # keywords
            lower, upper = [look.lower for look in looks], [look.upper for look in looks]
            axes.fill_between(moments, lower, upper, color=look["color"], alpha=0.12, linewidth=0)  # type: ignore[arg-type]  # dates
        axes.set_ylabel(name)

    caption = "Evidence: each band contains the arm's mean at all looks at once, with 95 % confidence."
    return Plot(
        title=f"Mean of {name} over time", caption=caption, svg=_drawn(draw, f"m-{name}", is_dated=True)
    )


def _posteriors(report: Report, arms: Sequence[ArmReport], left_out: str) -> Plot:
    def draw(axes: "Axes") -> None:
        for index, arm in enumerate(arms):
            metric = metric_of(arm, report.reward_metric)
            if metric.HasField("posterior"):
                values, densities = density_of(metric.posterior)
                axes.plot(values, densities, **_look(index, arm))  # type: ignore[arg-type]  # keywords
        axes.set_xlabel(report.reward_metric)
        axes.set_ylabel("density")
        axes.set_ylim(bottom=0)

    caption = f"Belief: what prior and outcomes suggest about each mean; it promises no error rate.{left_out}"
    title = f"Posteriors of {report.reward_metric}"
    return Plot(title=title, caption=caption, svg=_drawn(draw, "posteriors", is_dated=False))


def _look(index: int, arm: ArmReport) -> dict[str, object]:
    return {
        "label": arm.arm if len(arm.arm) <= _LONGEST_LABEL else f"{arm.arm[:_LONGEST_LABEL]}…",
        "color": _COLOURS[index % len(_COLOURS)],
        "linestyle": _DASHES[index % len(_DASHES)],
        "linewidth": 2,
    }


def _moment(instant: Timestamp) -> datetime:
    """Return the instant in the reader's own time zone."""
    return in_local_zone(instant.ToDatetime(UTC))


def _drawn(draw: Callable[["Axes"], None], prefix: str, *, is_dated: bool) -> str:
    """Draw a figure as an `svg` element whose ids begin with the prefix, since a page has several."""
    import matplotlib as mpl  # noqa: PLC0415 - an extra, and slow to load
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter  # noqa: PLC0415 - an extra, and slow to load
    from matplotlib.figure import Figure  # noqa: PLC0415 - an extra, and slow to load

    with mpl.rc_context():
        mpl.rcdefaults()  # nobody's own style: with LaTeX, say, ids of arms would be markup
        mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": prefix, "font.size": _FONT_SIZE})
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        draw(axes)
        if is_dated:
            now = in_local_zone(datetime.now(UTC))
            zone = now.tzinfo
            axes.set_xlabel(f"time, {zone_text(now)}")
            locator = AutoDateLocator(tz=zone, minticks=3, maxticks=7)  # type: ignore[no-untyped-call]  # published so
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=zone))  # type: ignore[no-untyped-call]  # as above
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
        figure.legend(loc="outside upper left", ncols=3, frameon=False)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None, "Creator": None})
    return _inlined(stream.getvalue(), prefix)


def _inlined(document: str, prefix: str) -> str:
    svg = document[document.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    return re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{prefix}-", svg)


_LONGEST_LABEL = 24


FloatArray = NDArray[np.float64]


_TAIL = 1e-3


_N_POINTS = 240


def density_of(message: evidence_pb2.Posterior) -> tuple[FloatArray, FloatArray]:
    """Return values from the .001 to the .999 quantile, and the mean density around each; shape (n_points,).

    Computed from differences of the distribution function, so that an unbounded density stays finite.
    """
    belief, distribution = _parts(message)
    ends = np.linspace(belief.quantile(_TAIL), belief.quantile(1 - _TAIL), _N_POINTS + 1)
    widths = np.maximum(np.diff(ends), np.finfo(float).tiny)
    return (ends[1:] + ends[:-1]) / 2, np.diff(distribution(ends)) / widths


def _parts(message: evidence_pb2.Posterior) -> tuple[Posterior, Callable[[FloatArray], FloatArray]]:
    """Return the posterior, and its distribution function."""
    match message.WhichOneof("kind"):
        case "normal":
            normal = message.normal
            return NormalPosterior(normal.mean, normal.sd), lambda x: scipy.special.ndtr(
                (x - normal.mean) / normal.sd
            )
        case "student_t":
            t = message.student_t
            return StudentTPosterior(t.mean, t.scale, t.df), lambda x: scipy.special.stdtr(
                t.df, (x - t.mean) / t.scale
            )
        case "gamma":
            gamma = message.gamma
            return GammaPosterior(gamma.shape, gamma.rate), lambda x: scipy.special.gammainc(
                gamma.shape, x * gamma.rate
            )
        case _:
            beta = message.beta
            return BetaPosterior(beta.alpha, beta.beta), lambda x: scipy.special.betainc(
                beta.alpha, beta.beta, x
            )
