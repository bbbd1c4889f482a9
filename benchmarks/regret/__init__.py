"""What a policy costs: `python -m benchmarks.regret` simulates bandit problems and prints regret.

A *problem* says what arms are worth, for how long and how outcomes come back; a *contestant* is a policy with
its floors and its half-life. Many independent runs go in lockstep, as arrays, with the policies' own `draw`:

    problem ──> world (means) ─┐
                               ├──> simulation ──> moments ──> result ──> table, JSON, plots
    text ──> contestant ───────┘

Regret is pseudo-regret: the sum over rounds of what the best arm of that moment is worth less what the chosen
arm is worth; its mean over runs comes with a standard error.
"""
