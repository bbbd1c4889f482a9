"""Posteriors on their way to the wire."""

from typing import assert_never

from bandit.posteriors import (
    BetaPosterior,
    GammaPosterior,
    NormalPosterior,
    Posterior,
    StudentTPosterior,
)
from bandit.v1 import evidence_pb2


def to_posterior(belief: Posterior) -> evidence_pb2.Posterior:
    """The message of a posterior."""
    match belief:
        case BetaPosterior(alpha, beta):
            return evidence_pb2.Posterior(beta=evidence_pb2.BetaPosterior(alpha=alpha, beta=beta))
        case NormalPosterior(mean, sd):
            return evidence_pb2.Posterior(normal=evidence_pb2.NormalPosterior(mean=mean, sd=sd))
        case StudentTPosterior(mean, scale, df):
            student_t = evidence_pb2.StudentTPosterior(mean=mean, scale=scale, df=df)
            return evidence_pb2.Posterior(student_t=student_t)
        case GammaPosterior(shape, rate):
            return evidence_pb2.Posterior(gamma=evidence_pb2.GammaPosterior(shape=shape, rate=rate))
        case _:
            assert_never(belief)
