"""What stands around every method: who may call it, how often, and what is measured."""
