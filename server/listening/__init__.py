"""Where a server listens: every address of a name, or none; and Unix sockets."""
