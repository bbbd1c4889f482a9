"""Reports: beliefs and evidence about an experiment, in numbers and in sentences."""
