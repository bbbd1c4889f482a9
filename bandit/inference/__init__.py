"""Inference on data that a bandit collected: valid at any look, under any allocation, and under drift.

From facts and epochs to a table (`evidence_table`), from the table to means, comparisons, relative lifts and
values of static splits. A function without enough data returns a `CannotSay` with the reason.
"""

from bandit.inference.data.floors import declared_floors as declared_floors
from bandit.inference.data.floors import smallest_floors as smallest_floors
from bandit.inference.data.pairs import Pair as Pair
from bandit.inference.data.pairs import pair_of as pair_of
from bandit.inference.data.table import EvidenceTable as EvidenceTable
from bandit.inference.data.table import ExposureTable as ExposureTable
from bandit.inference.data.table import ValueScale as ValueScale
from bandit.inference.data.table import evidence_table as evidence_table
from bandit.inference.data.table import exposure_table as exposure_table
from bandit.inference.data.table import open_evidence_table as open_evidence_table
from bandit.inference.harm.margins import MarginEvidence as MarginEvidence
from bandit.inference.harm.margins import edge_of as edge_of
from bandit.inference.harm.margins import margin_evidence as margin_evidence
from bandit.inference.harm.signals import SignalRule as SignalRule
from bandit.inference.harm.signals import SignalState as SignalState
from bandit.inference.harm.signals import signal_state as signal_state
from bandit.inference.planning.power import Forecast as Forecast
from bandit.inference.planning.power import Plan as Plan
from bandit.inference.planning.power import expected_shares as expected_shares
from bandit.inference.planning.power import forecast as forecast
from bandit.inference.planning.share_path import SharePath as SharePath
from bandit.inference.reasons import CannotSay as CannotSay
from bandit.inference.reasons import Reason as Reason
from bandit.inference.sequential.centred_odds import CentredOdds as CentredOdds
from bandit.inference.sequential.comparison import Comparison as Comparison
from bandit.inference.sequential.comparison import compare as compare
from bandit.inference.sequential.design import UNDECLARED_FLOOR as UNDECLARED_FLOOR
from bandit.inference.sequential.design import Design as Design
from bandit.inference.sequential.means import MeanEstimate as MeanEstimate
from bandit.inference.sequential.means import MeanLook as MeanLook
from bandit.inference.sequential.means import estimate_mean as estimate_mean
from bandit.inference.sequential.means import look_at_mean as look_at_mean
from bandit.inference.sequential.mixture import Mixture as Mixture
from bandit.inference.sequential.multiplicity import e_bh as e_bh
from bandit.inference.sequential.odds import harm_process as harm_process
from bandit.inference.sequential.off_policy import SplitValue as SplitValue
from bandit.inference.sequential.off_policy import value_of_split as value_of_split
from bandit.inference.sequential.response import ArmResponse as ArmResponse
from bandit.inference.sequential.response import Response as Response
from bandit.inference.sequential.response import measure_response as measure_response
from bandit.inference.sequential.response import require_alike as require_alike
from bandit.inference.sequential.results import EProcess as EProcess
from bandit.inference.sequential.results import Interval as Interval
from bandit.inference.sequential.sample_ratio import SampleRatio as SampleRatio
from bandit.inference.sequential.sample_ratio import check_sample_ratio as check_sample_ratio
from bandit.inference.verdict.advice import Advice as Advice
from bandit.inference.verdict.advice import Beliefs as Beliefs
from bandit.inference.verdict.advice import Harm as Harm
from bandit.inference.verdict.advice import Rules as Rules
from bandit.inference.verdict.advice import Ruling as Ruling
from bandit.inference.verdict.advice import rule as rule
from bandit.inference.verdict.assessment import Assessment as Assessment
from bandit.inference.verdict.assessment import MetricEvidence as MetricEvidence
from bandit.inference.verdict.assessment import assess as assess
from bandit.inference.verdict.claims import ChallengerEvidence as ChallengerEvidence
from bandit.inference.verdict.claims import Claim as Claim
from bandit.inference.verdict.claims import TestKind as TestKind
