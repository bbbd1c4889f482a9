"""Sequential (anytime-valid) inference: estimators and tests whose error rates hold at every look.

================  ==================================================================================
`design`          what is fixed before any data: error rate, floors
`odds`            e-process for yes/no outcomes: the ratio of two arms' rates; `odds_events` searches it
`aipw`            means, and differences of means, of any outcome; from `scores`, by the `mixture`
`lift`            the relative change, from those means
`mean_path`       an arm's mean at many looks, for a plot
`off_policy`      the value of a static split, and the gain over it
`multiplicity`    Holm's adjustment, and means of e-values
`sample_ratio`    the sample ratio mismatch (SRM) check
`response`        whether arms are answered alike, where silence is ignored
`results`         intervals and e-processes, as values
================  ==================================================================================
"""
