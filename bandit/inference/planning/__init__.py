"""Plans: how long until a lift would be seen, along a policy's expected path of shares."""
