"""Regret benchmark: `python -m benchmarks.regret` simulates bandit problems and prints each policy's regret.

A *problem* defines the arms' means, the horizon and the delay of outcomes; a *contestant* is a policy with
its floors and its half-life. Many independent runs go in lockstep, as arrays, with the policies' own `draw`:

    problem ──> world (means) ─┐
                               ├──> simulation ──> moments ──> result ──> table, JSON, plots
    text ──> contestant ───────┘

Regret is pseudo-regret: the mean of the best arm of each round less the mean of the chosen arm, summed over
rounds. It is averaged over runs and comes with a standard error.
"""
