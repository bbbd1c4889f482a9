"""Messages from and to the wire: the only code that converts between protobuf and the domain."""
