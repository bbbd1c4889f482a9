"""Work on a whole database: purging, the check of the ledger, and repairs."""
