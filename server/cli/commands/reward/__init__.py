"""`bandit-server reward`: outcomes posted by hand or from a file."""
