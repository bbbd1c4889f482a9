"""Background work: flushing counts, polling the store, retention, and the runs of dead servers."""
