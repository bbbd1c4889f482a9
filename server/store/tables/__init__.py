"""The tables and their SQL, a module for each subject.

===============  ===========================================================================================
`schema`         every table and its columns
`experiments`    `experiments`, `configurations`: one row for each experiment, and for each of its revisions
`epochs`         `epochs`: inserted once, never changed
`facts`          `decision_facts`, `outcome_facts`: what was counted, by writer
`rewards`        `rewards`: the reward log, its upsert and its rows
`reward_batch`   what becomes of a batch of rewards: rounds, verdicts, increments of the facts
`history`        `rewards` read in order, for an export
`units`          `units`, `unit_groups`, `unit_sums`: analysis units
`seals`          `seals`: how far the log is closed
`sealed_facts`   `sealed_facts`: the sums of what was purged
`writers`        `writers`: runs of servers and their slots
`ended_runs`     `ended_runs`: runs that died, and the outcomes of decisions that they never counted
`launch`         `leases`, `launch_looks`, `requests`: launches
`shadows`        `sealed_pairs`, `sealed_mirrors`: arms in shadow
`gate`           `compatibility`: what servers of an earlier release may still read
`signing_keys`   `signing_keys`: the ring of keys
`clock`          `clock`, `clock_marks`: the clock that servers share
`audit`          `audit`: who changed what
`events`         `events`, `deliveries`: what happened to each experiment, and what webhooks have not taken
===============  ===========================================================================================
"""
