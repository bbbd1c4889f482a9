"""What the service does, free of wire and SQL: choosing, the ledger, epochs, experiments, reports."""
