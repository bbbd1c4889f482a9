"""Launches in words: gates, holds, reasons, and where each arm is."""

from collections.abc import Mapping, Sequence
from datetime import timedelta
from math import exp, inf, log
from typing import Final

from bandit.inference.planning.power import FAR_DAYS
from bandit.launch.claims import ClaimKind, LaunchClaim, ShadowPairs
from bandit.launch.gates import ArmFigures, Finding, Gate, Hold, HoldCause, Lift, Look
from bandit.launch.plan import Mode
from bandit.launch.rulings import Action, Ruling, takes_out
from bandit.launch.state import ArmLaunch, ArmState
from bandit.metric import Direction
from server.wording import percent

CONTROLLER: Final = "controller"
"""The actor of what the service does by itself."""

_DAY: Final = timedelta(days=1)
_HOUR: Final = timedelta(hours=1)
_MINUTE: Final = timedelta(minutes=1)

_COUNTED: Final = {
    "minimum_decisions": "decisions",
    "minimum_outcomes": "outcomes",
    "whole_cycles": "whole cycles",
    "minimum_cycles": "whole cycles in the bandit stage",
    "holdback": "whole cycles of holdback",
}

_HOLDS: Final[Mapping[HoldCause, str]] = {
    HoldCause.OPERATOR: "held by {detail}",
    HoldCause.SIGNAL: "{metric} is worse than it may be; it goes on by itself once that is over",
    HoldCause.SAMPLE_RATIO: (
        "decisions do not follow the shares{detail}; nothing is judged until this is clear"
    ),
    HoldCause.NO_DATA: "{detail}; silence is not taken for failure",
    HoldCause.INCONCLUSIVE: "its step has lasted as long as it may, and shows nothing",
    HoldCause.PAUSED: "the experiment does not run",
    HoldCause.ROOM: "{detail}",
    HoldCause.APPROVAL: "it waits for an approval",
    HoldCause.CLOCK: "the server's clock is in doubt",
    HoldCause.GUARDRAIL: "{metric} shows harm: roll it back",
    HoldCause.HOLDBACK: "the holdback of {detail} is not over; one promotion at a time",
}


_CLAIMED: Final[Mapping[ClaimKind, str]] = {
    ClaimKind.BETTER: "evidence that it is better than {champion}: e-value {value}, needs {level}",
    ClaimKind.HARM: "evidence that it is worse than {champion}: e-value {value}, needs {level}",
    ClaimKind.SIGNAL: "evidence that it is worse than it may be: e-value {value}, holds it at {level}",
}
_NO_LONGER_BAD: Final = "holds it; evidence that it is no longer bad: e-value {value}, needs {level}"
_LARGEST_SHOWN: Final = log(1e6)

_FUSE: Final = "a fuse, not a finding"

_STATES: Final[Mapping[ArmState, str]] = {
    ArmState.PROMOTED: "Promoted{by}{because}. {former} keeps the holdback; a rollback brings it back.",
    ArmState.HOLDBACK: "Former champion: {arm} keeps the holdback of {champion}'s promotion.",
    ArmState.SUCCEEDED: "Succeeded{by}{because}. {arm} answers; nothing is left to do.",
    ArmState.REPLACED: "Replaced by {champion}{because}. Its share is 0.",
    ArmState.ROLLED_BACK: "{what}{by}{because}. {champion} answers; find out why.",
    ArmState.RETIRED: "Retired{by}{because}. {champion} stays.",
    ArmState.INCONCLUSIVE: (
        "Inconclusive{because}. Nothing was shipped; {champion} answers. Restart {arm} to give it longer."
    ),
    ArmState.WITHDRAWN: "Withdrawn{by}{because}. Its share is 0.",
}
"""States in which an arm takes no steps, in words; the others depend on the look."""


def span(duration: timedelta) -> str:
    """Return a duration as people say it, in its two largest units.

    >>> span(timedelta(days=1, hours=5, minutes=3)), span(timedelta(seconds=42))
    ('1 d 5 h', '42 s')
    """
    parts: list[str] = []
    rest = duration
    for unit, name in ((_DAY, "d"), (_HOUR, "h"), (_MINUTE, "min"), (timedelta(seconds=1), "s")):
        count, rest = divmod(rest, unit)
        if count or parts:
            parts.append(f"{count} {name}" if count else "")
        if len(parts) == 2:  # noqa: PLR2004 - two units, as the docstring says
            break
    return " ".join(part for part in parts if part) or "0 s"


def gate_sentence(gate: Gate) -> str:
    """Return a gate in words.

    >>> gate_sentence(Gate(name="minimum_decisions", figure=412, threshold=5000))
    '412 of 5,000 decisions'
    """
    if gate.name == "minimum_duration":
        covered, least = timedelta(seconds=gate.figure), timedelta(seconds=gate.threshold)
        return f"{span(covered)} of {span(least)} with traffic"
    if gate.name == "minimum_mirrored":
        return f"outcomes of {percent(gate.figure)} of its shadow decisions, of {percent(gate.threshold)}"
    if gate.name == "evidence":
        return f"log e-value {gate.figure:.2f} of {gate.threshold:.2f}"
    if gate.name == "probability_best":
        return f"P(best) {percent(gate.figure)} of {percent(gate.threshold)}, a belief"
    counted = "pairs" if gate.counts_pairs else _COUNTED[gate.name]
    return f"{gate.figure:,.0f} of {gate.threshold:,.0f} {counted}"


def hold_sentence(hold: Hold) -> str:
    """Return a hold in words."""
    return _HOLDS[hold.cause].format(metric=hold.metric, detail=_detail_of(hold))


def _detail_of(hold: Hold) -> str:
    if hold.skewed is not None:
        arm, part = hold.skewed
        return f": {arm} has {percent(abs(part))} {'more' if part > 0 else 'less'} than its share"
    if hold.lasted is not None:
        return f"no outcomes for {span(hold.lasted)}, of any arm"
    return hold.detail


def claim_sentence(claim: LaunchClaim, champion: str) -> str:
    """Return a claim about a challenger in words.

    >>> claim = LaunchClaim(metric="click", kind=ClaimKind.BETTER, log_e_value=0.0, log_level=3.0)
    >>> claim_sentence(claim, "v1")
    'click: evidence that it is better than v1: e-value 1, needs 20.1'
    """
    parts = []
    if claim.log_e_value is not None and claim.log_level is not None:
        value, level = _e_value(claim.log_e_value), _e_value(claim.log_level)
        template = _NO_LONGER_BAD if claim.is_held else _CLAIMED[claim.kind]
        parts.append(template.format(champion=champion, value=value, level=level))
    elif claim.unsaid:
        parts.append(f"no evidence can be given: {claim.unsaid}")
    if claim.pairs is not None:
        parts.append(_pairs_in_words(claim.pairs, champion))
    return f"{claim.metric}: {'; '.join(parts) or 'nothing has been seen yet'}"


def _pairs_in_words(pairs: ShadowPairs, champion: str) -> str:
    means = f"{pairs.shadow:.4g} where {champion} had {pairs.champion:.4g}"
    bounds = f"a difference between {pairs.lower:+.3g} and {pairs.upper:+.3g}"
    return f"in shadow, on {pairs.n:,} pairs, {means}, {bounds}"


def _e_value(log_value: float) -> str:
    return f"{exp(log_value):.3g}" if log_value < _LARGEST_SHOWN else f"10^{log_value / log(10):.0f}"


def reason_for(ruling: Ruling, look: Look) -> str:
    """Return why the service does something, as the launch and its events keep it."""
    arm = ruling.arm
    champion = look.launching.launch.former_champion or look.launching.experiment.champion
    match ruling.action:
        case Action.ROLL_BACK:
            return _abort_reason(ruling, champion)
        case Action.END:
            return _end_reason(ruling, look, champion)
        case Action.END_HOLDBACK:
            return f"the holdback is over, and nothing spoke against {arm}"
        case Action.PROMOTE:
            return f"{arm} is better than {champion}: {_gates_in_words(look, arm)}"
        case Action.ADVANCE:
            gates = _gates_in_words(look, arm)
            return f"every gate is open: {gates}" if gates else "there is room for its first step"


def _end_reason(ruling: Ruling, look: Look, champion: str) -> str:
    arm, lift = ruling.arm, look.figures[ruling.arm].lift
    if ruling.outcome is ArmState.RETIRED:
        most, least = (100 * ruling.figures[name] for name in ("most_lift", "least_lift"))
        return f"{arm} gains {most:.3g} % over {champion} at most; only {least:.3g} % is worth having"
    covered = span(timedelta(seconds=ruling.figures["covered_seconds"]))
    if lift is None:
        return f"after {covered} with traffic nothing is shown of {arm}"
    return f"after {covered} with traffic {arm} lies between {_bounds(lift)} of {champion}"


def _abort_reason(ruling: Ruling, champion: str) -> str:
    arm, figures = ruling.arm, ruling.figures
    if ruling.finding is not None:
        return _finding_in_words(arm, ruling.finding, champion)
    if ruling.cause is HoldCause.NO_DATA:
        expected = f"{figures['expected_outcomes']:,.0f}"
        counted = f"{figures['decisions']:,.0f} decisions"
        return f"{arm} had no outcome in {counted}, where {champion}'s rate leads to expect {expected}"
    return "decisions do not follow the shares"


def _finding_in_words(arm: str, finding: Finding, champion: str) -> str:
    if finding.is_trip_wire:
        return _trip_reason(arm, finding.metric, finding.figures, champion)
    return _harm_reason(arm, finding, champion)


def _trip_reason(arm: str, metric: str, figures: Mapping[str, float], champion: str) -> str:
    own = f"{figures['events']:,.0f} of {figures['event_decisions']:,.0f} decisions"
    others = f"{figures['champion_events']:,.0f} of {figures['champion_decisions']:,.0f}"
    times = f", {figures['ratio']:.3g} times the rate" if "ratio" in figures else ""
    return f"{metric} in {own} of {arm}, in {others} of {champion}{times}; {_FUSE}"


def _harm_reason(arm: str, finding: Finding, champion: str) -> str:
    metric, figures = finding.metric, finding.figures
    values = f"e-value {figures['e_value']:.3g}, level {figures['level']:.3g}"
    if finding.is_reversal:
        return f"{champion} is better than {arm} on {metric} since the promotion ({values})"
    more, less = figures.get("lift_lower", 0.0), figures.get("lift_upper", 0.0)
    if more > 0:
        return f"{arm} had at least {100 * more:.3g} % more {metric} than {champion} ({values})"
    if less < 0:
        return f"{arm} had at least {-100 * less:.3g} % less {metric} than {champion} ({values})"
    return f"{metric} of {arm} is worse than that of {champion} ({values})"


def _gates_in_words(look: Look, arm_id: str) -> str:
    return ", ".join(gate_sentence(gate) for gate in look.gates(arm_id))


def arm_sentence(arm_id: str, arm: ArmLaunch, look: Look) -> str:
    """Return where an arm is, why, and what a person has to do."""
    template = _STATES.get(arm.state)
    if template is None:
        return _under_way(arm_id, arm, look)
    findings, former = look.harmed.get(arm_id, ()), look.launching.launch.former_champion
    if arm.state is ArmState.PROMOTED and findings and former is not None:
        return _bad_promotion(arm_id, findings[0], former, look)
    is_fuse = arm.state is ArmState.ROLLED_BACK and arm.reason.endswith(_FUSE)
    return template.format(
        arm=arm_id,
        champion=look.launching.experiment.champion,
        former=look.launching.launch.former_champion,
        what="Tripped" if is_fuse else "Rolled back",
        by="" if arm.actor == CONTROLLER else f" by {arm.actor}",
        because=f": {arm.reason}" if arm.reason else "",
    )


def _under_way(arm_id: str, arm: ArmLaunch, look: Look) -> str:
    """Return what a challenger does or waits for."""
    where = "waiting for the first stage" if arm.current is None else f"in {arm.current.label}"
    holds = look.holds(arm_id)
    if [hold.cause for hold in holds] == [HoldCause.APPROVAL] and arm.state is ArmState.BANDIT:
        figures = look.figures.get(arm_id, ArmFigures())
        return f"Promote {arm_id}: {_gain(figures, look)}. It waits for your approval."
    if holds:
        return f"Held: {arm_id} is {where}; {'; '.join(map(hold_sentence, holds))}."
    missing = [gate for gate in look.gates(arm_id) if not gate.is_open]
    if arm.state is ArmState.BANDIT:
        return _in_bandit(arm_id, missing, look)
    if missing:
        return f"Wait: {arm_id} is {where}, {', '.join(map(gate_sentence, missing))}."
    if look.launching.plan.mode is Mode.AUTOMATIC:
        return f"Ready: {arm_id} is {where}, and moves at the next look."
    return f"Ready: {arm_id} is {where}; every gate is open. It waits for a person to move it."


def _bad_promotion(arm_id: str, finding: Finding, former: str, look: Look) -> str:
    acts = takes_out(finding, look.launching.plan)
    what = "It is rolled back now" if acts else "The holdback does not end until a person decides"
    return f"Roll back {arm_id}: {_finding_in_words(arm_id, finding, former)}. {what}."


def _in_bandit(arm_id: str, missing: Sequence[Gate], look: Look) -> str:
    """Return whether a challenger of the bandit stage is better, and when it is promoted."""
    figures, champion = look.figures.get(arm_id, ArmFigures()), look.launching.experiment.champion
    if any(gate.name == "evidence" for gate in missing):
        so_far = "" if figures.lift is None else f" So far between {_bounds(figures.lift)}."
        so_far += _when_seen(figures)
        so_far = f" No evidence can be given yet: {figures.unsaid}." if figures.unsaid else so_far
        if figures.led_at is not None:
            led = f"{arm_id} led {champion} from {figures.led_at:%Y-%m-%d} on"
            return f"Was better: {led}, and the data since do not bear it out. Not promoted.{so_far}"
        others = ", ".join(gate_sentence(gate) for gate in missing if gate.name != "evidence")
        return f"Wait: too early to tell {arm_id} from {champion}.{so_far}" + (
            f" {others}." if others else ""
        )
    if missing or not figures.is_winner:
        opening = [gate.opens_at for gate in missing if gate.opens_at is not None]
        when = max([*opening, *([look.cycle_ends_at] if look.cycle_ends_at else [])], default=None)
        date = "at the end of the cycle" if when is None else f"on {when:%Y-%m-%d %H:%M} UTC"
        return f"Wait: {arm_id} is better than {champion}, and is promoted {date} if that still holds."
    return f"Promote {arm_id}: {_gain(figures, look)}. {_WHO[look.launching.plan.mode]}"


def _when_seen(figures: ArmFigures) -> str:
    """Return how long an improvement takes to be seen from now on; empty if it should have been."""
    visible = figures.visible
    if visible is None:
        return ""
    lift = f"a lift of {100 * visible.lift:+.3g} %"
    if visible.days > FAR_DAYS:
        return f" At this traffic {lift} does not show within ten years."
    left = timedelta(days=visible.days) - figures.covered
    return f" At this traffic {lift} shows in about {span(left)}." if left > timedelta() else ""


_WHO: Final[Mapping[Mode, str]] = {
    Mode.AUTOMATIC: "It is promoted at the next look.",
    Mode.RECOMMEND: "It waits for a person to promote it.",
}


def _gain(figures: ArmFigures, look: Look) -> str:
    """Return how much better a challenger is, and at least how much."""
    metric = look.launching.experiment.metric(look.launching.experiment.reward_metric)
    lift = figures.lift
    if lift is None:
        return f"{metric.name} is better"
    least = lift.lower if metric.direction is Direction.MAXIMIZE else lift.upper
    return f"{metric.name} {100 * lift.estimate:+.3g} %, at least {100 * least:+.3g} %"


def _bounds(lift: Lift) -> str:
    upper = "any" if lift.upper == inf else f"{100 * lift.upper:+.3g}"
    return f"{100 * lift.lower:+.3g} and {upper} %"


def next_step(arm_id: str, arm: ArmLaunch, look: Look) -> str:
    """Return what comes next for an arm; empty if nothing does."""
    if arm.state is ArmState.WAITING:
        steps = look.launching.plan.stages
        return f"enter {steps[0].kind}"
    if arm.state is ArmState.PROMOTED:
        return f"roll back {arm_id}" if look.harmed.get(arm_id) else "end the holdback"
    if arm.state is ArmState.BANDIT:
        return f"promote {arm_id}"
    return "" if arm.next is None else f"advance to {arm.next.label}"
