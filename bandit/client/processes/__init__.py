"""What becomes of a client in other processes: forks and pickles."""
