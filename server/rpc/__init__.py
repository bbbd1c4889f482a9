"""The wire: the only place that knows protobuf and gRPC. A method converts, calls a service, and converts back."""
