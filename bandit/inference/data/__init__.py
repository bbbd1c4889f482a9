"""What inference reads: facts laid out by epoch and arm, and the floors that shares were declared to keep."""
