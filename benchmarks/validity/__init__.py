"""Error rates, coverage and power of the report's inference, over simulated experiments of many kinds."""
