"""The wire: the only place that knows protobuf. A method converts, calls a service, and converts back."""
