"""How long a good caller waits beside one who takes all that a listener gives."""
