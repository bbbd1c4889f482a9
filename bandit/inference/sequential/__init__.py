"""Sequential (anytime-valid) inference: estimators and tests whose error rates hold at every look."""
