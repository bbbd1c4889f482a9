"""The commented experiment file that `bandit-server experiment example` prints."""

EXAMPLE = """\
# An experiment: which model version serves best? Apply it with
#   bandit-server experiment apply ranker.toml
# Keys behind a # are optional and show an example. Times: "250ms", "30s", "15m", "1h", "7d", "1h30m".

name = "ranker"                       # a-z, 0-9 and -; a namespace may precede it: "team-a/ranker"
description = "Does the new ranker earn more clicks?"
champion = "v1"                       # the arm in production: it answers when the experiment does not decide
reward_metric = "click"               # the metric that steers

# half_life = "7d"                    # forget: an epoch this old weighs half; default: nothing is forgotten
# lookback = "30d"                    # leave out epochs that began longer ago than this
# max_decision_age = "30d"            # how long after a decision its first outcome is accepted
analysis_unit = "unit"                # evidence counts a unit once, however often it returns; fixed by the
                                      # start; default: "decision", right where units do not return
# salt = "00112233445566778899aabbccddeeff"  # seeds the assignment of units; default: drawn at random

# How shares follow from what was observed. This is the default; a table gives a policy its parameters:
policy = "thompson_sampling"          # an arm's share is the probability that it is best

# [policy.epsilon_greedy]             # the best mean, except for a share epsilon spread evenly
# epsilon = 0.1
# decay_observations = 10_000         # epsilon / (1 + n / decay_observations) after n observations

# [policy.static_split.weights]       # fixed shares, whatever is observed
# v1 = 90
# v2 = 10

# The versions. Each is immutable: a changed model is a new arm with a new id.
[[arms]]
id = "v1"                             # or as a registry names it: "openai/gpt-4.1"; . _ - / : @ inside
model_uri = "models:/ranker/1"        # where the backend finds the model
# digest = "sha256:4f0a…"             # for the backend to check
# taken_out = true                    # no traffic from the policy
# prior_from = { arm = "v0", weight = 0.1 }  # an arm that is added: belief starts from 0.1 of v0's outcomes

[arms.payload]                        # handed out with every decision for this arm
temperature = 0.2

[[arms]]
id = "v2"
model_uri = "models:/ranker/2"

[arms.payload]
temperature = 0.7

# What is observed, one table for each metric.
[[metrics]]
name = "click"
kind = "binary"                       # "binary", "real" or "count"
direction = "maximize"                # or "minimize"
window = "1h"                         # how long after its decision an outcome steers
default_value = 0                     # what silence means once the window has closed; default: left out

# [metrics.prior.beta]                # belief before any outcome; for "binary"
# alpha = 1
# beta = 1

[[metrics]]
name = "latency_ms"                   # `client.serve` posts it
kind = "real"
direction = "minimize"
minimum = 0
maximum = 2_000                       # required for "real" and "count"; evidence is as wide as the range, so
                                      # keep it within some 30 standard deviations
clip = true                           # move a value outside the range to its nearest end; default: refuse it
window = "1h"                         # without a window there is no evidence
role = "guardrail"                    # must not get worse: recorded and reported, and does not steer. Or
                                      # "signal": an arm that seems to make it worse is to wait meanwhile
# worse_by = { relative = 0.1 }       # how much worse an arm may be: 10 % of the champion's mean, or
                                      # { absolute = 20 } in the metric's unit; default: not at all
shadow = true                         # arms in shadow are compared with the champion in it; see [launch]

[metrics.prior.normal_inverse_gamma]  # for "real": belief before any outcome; without it the middle of the
mean = 200                            # range, so declare what you expect
pseudo_observations = 1               # how many outcomes that is worth
shape = 1
scale = 10_000                        # shape times the variance: here a standard deviation of 100

# [metrics.prior.gamma]               # for "count"
# shape = 1
# rate = 1

# Limits on the shares.
[limits]
minimum_share = 0.05                  # every arm in service gets at least this: without it a losing arm may
                                      # get nothing, and then nothing can be found out about it
# maximum_share = 0.95                # no arm gets more
# champion_minimum_share = 0.2        # with a launch: the reserve of whichever arm is champion
# maximum_step_per_hour = 0.2         # how far a share may move in an hour
warm_up_decisions = 500               # a new arm holds an equal share until it has this many decisions,
warm_up_duration = "1d"               # or for this long

[limits.minimum_shares]               # an arm's own minimum; the champion's is its reserve
v1 = 0.2

# A launch: every challenger walks from a small share to champion by itself. Its stages replace the warm-up,
# so leave warm_up_decisions and warm_up_duration out with it.
# [launch]
# mode = "recommend"                  # or "automatic": the service takes the steps and promotes
# cycle = "7d"                        # the traffic's rhythm; promotion looks at whole cycles only
# minimum_cycles = 2                  # in the bandit stage before a promotion
# guardrail_action = "rollback"       # what harm does, in both modes; or "recommend"
# on_no_data = "hold"                 # without outcomes; or "rollback"
# on_sample_ratio_alarm = "hold"      # while decisions do not follow the shares; or "rollback"
# on_inconclusive = "end"             # when maximum_duration of the bandit stage is over; or "hold"
# least_lift = 0.01                   # a challenger that is shown to gain less is retired; default: nobody is
# after_holdback = "continue"         # with the challengers under way; or "conclude"
# max_staleness = "60s"               # a server that is cut off for longer answers with the champion

# [[launch.stages]]                   # each kind once at most, in this order; the bandit is required
# kind = "shadow"                     # sees the champion's requests, and answers none
# sample = 0.5                        # the part of them; default: 1, all
# minimum_mirrored = 0.9              # the part of what it saw of which an outcome must be posted

# [[launch.stages]]
# kind = "canary"
# share = 0.01
# minimum_decisions = 1_000           # what any stage may ask for before a challenger goes on; a stage that
# minimum_outcomes = 500              # asks for nothing takes a seventh of a cycle
# minimum_duration = "1d"
# approval = true                     # a person has to approve that it goes on
# maximum_duration = "14d"            # then it is inconclusive; default: it takes as long as it takes

# [[launch.stages]]
# kind = "ramp"
# shares = [0.05, 0.10, 0.25]         # a step for each; what the stage asks for holds for each step
# whole_cycles = 1                    # as minimum_duration, in cycles

# [[launch.stages]]
# kind = "bandit"                     # the policy decides among the champion and the arms in this stage

# [launch.holdback]                   # what the former champion keeps after a promotion; default: nothing
# share = 0.05
# cycles = 1
"""
