"""The launches that are told: what is declared, the traffic, and how the challenger really is."""

import random
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from benchmarks.launch.story import Traffic

STEP: Final = timedelta(hours=2)
"""How far the clock is moved at a time: also how often the server looks at the launch."""

CHAMPION: Final = "v1"
CHALLENGER: Final = "v2"

_DECLARED: Final = f"""
name = "ranker"
champion = "{CHAMPION}"
reward_metric = "click"
arms = [{{ id = "{CHAMPION}" }}, {{ id = "{CHALLENGER}" }}]

[limits]
champion_minimum_share = 0.2

[[metrics]]
name = "click"
kind = "binary"
window = "1h"
default_value = 0

[[metrics]]
name = "error"
kind = "binary"
direction = "minimize"
role = "guardrail"
window = "1h"
default_value = 0
shadow = true

[[metrics]]
name = "shadow_status"
kind = "binary"

[launch]
mode = "automatic"
cycle = "7d"
stages = [
  {{ kind = "shadow", sample = 0.25 }},
  {{ kind = "canary", share = 0.05 }},
  {{ kind = "ramp", shares = [0.1, 0.25] }},
  {{ kind = "bandit", maximum_duration = "21d" }},
]
holdback = {{ share = 0.05, cycles = 1 }}
"""

_SHADOW: Final = '  { kind = "shadow", sample = 0.25 },\n'
_CLICKS: Final = 0.10
_ERRORS: Final = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One launch.

    Attributes:
        name: What the challenger is like, and how much traffic there is.
        decisions_a_day: Decisions in a day, evenly over it.
        clicks: The challenger's rate of clicks over the champion's.
        errors: The challenger's rate of errors over the champion's.
        expected: How the challenger's launch should end.
        has_shadow: Whether it begins in shadow.
    """

    name: str
    decisions_a_day: int
    clicks: float = 1.0
    errors: float = 1.0
    expected: str
    has_shadow: bool = True

    @property
    def declared(self) -> str:
        """The experiment's file."""
        return _DECLARED if self.has_shadow else _DECLARED.replace(_SHADOW, "")

    def traffic(self, seed: int) -> Traffic:
        """Return the traffic, whose outcomes are drawn with a seed."""
        generator = random.Random(seed)
        rates = {
            CHAMPION: {"click": _CLICKS, "error": _ERRORS},
            CHALLENGER: {"click": self.clicks * _CLICKS, "error": self.errors * _ERRORS},
        }

        def answer(arm: str) -> Mapping[str, float]:
            return {metric: float(generator.random() < rate) for metric, rate in rates[arm].items()}

        decisions = round(self.decisions_a_day * (STEP / timedelta(days=1)))
        return Traffic(step=STEP, decisions=decisions, answer=answer, unseen=("error",))


CASES: Final = (
    Case(name="+20 %, 4,000 a day", decisions_a_day=4_000, clicks=1.2, expected="succeeded"),
    Case(name="+10 %, 40,000 a day", decisions_a_day=40_000, clicks=1.1, expected="succeeded"),
    Case(
        name="+20 % and errors doubled, 4,000 a day",
        decisions_a_day=4_000,
        clicks=1.2,
        errors=2.0,
        expected="rolled_back",
        has_shadow=False,
    ),
    Case(
        name="+10 % and errors doubled, 40,000 a day",
        decisions_a_day=40_000,
        clicks=1.1,
        errors=2.0,
        expected="rolled_back",
        has_shadow=False,
    ),
    Case(
        name="the same, seen in shadow first",
        decisions_a_day=40_000,
        clicks=1.1,
        errors=2.0,
        expected="rolled_back",
    ),
    Case(name="equal, 4,000 a day", decisions_a_day=4_000, expected="inconclusive"),
)
