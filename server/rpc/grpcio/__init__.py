"""The adapter from grpc.aio to the guarded methods: the listener that serves every method."""
