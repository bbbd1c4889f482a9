"""The services, independent of wire and SQL: choosing, the ledger, epochs, experiments, reports."""
