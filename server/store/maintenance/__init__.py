"""Work on a whole database: purging, comparing the ledger, and repairs."""
