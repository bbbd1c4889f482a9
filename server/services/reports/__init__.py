"""Reports: what is believed and what is evident about an experiment, in numbers and in sentences."""
