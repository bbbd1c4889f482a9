"""The verdict: what the tests establish together, and the advice that follows."""
