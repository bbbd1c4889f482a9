"""Launches: the controller that looks at them, and the verbs with which people move challengers."""
