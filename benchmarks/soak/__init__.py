"""Mixed faults under load for minutes or hours, and a check of the ledger at the end."""
