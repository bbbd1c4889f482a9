"""The store: the only place that knows SQL. `interface.Store` is its contract."""
