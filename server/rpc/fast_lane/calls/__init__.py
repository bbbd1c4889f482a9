"""What answers a stream: a call of each kind."""
