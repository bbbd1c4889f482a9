"""Conversion between protobuf messages and the domain; no other code does it."""
