"""Launches in reports: a look at a launch, what speaks for and against each challenger, and the words."""
