"""The wire: the only package that uses protobuf. A method converts, calls a service, and converts back."""
