"""Plans: how long until a lift would be seen, along the path that a policy is expected to take."""
