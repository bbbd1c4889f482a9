"""Sequential (anytime-valid) inference: estimators and tests whose error rates hold at every look.

================  ==================================================================================
`design`          what is fixed before any data: error rate, floors, number of challengers
`comparison`      a challenger against the champion: one test, and all that follows from it
`centred_odds`    that test for yes/no metrics
`bounded_scores`  that test for amounts and counts, by the `mixture`
`range_free`      beside it, where tails are heavy: an approximate interval
`means`           an arm's mean by overlap weights, and its path over many looks
`odds`            harm in open epochs: the ratio of two arms' events
`off_policy`      the value of a static split, and the gain over it, from AIPW `scores`
`multiplicity`    false discovery rate over many e-values
`sample_ratio`    the sample ratio mismatch (SRM) check
`response`        whether arms are answered alike, where silence is ignored
`search`          the ends of intervals
`results`         intervals and e-processes, as values
================  ==================================================================================
"""
