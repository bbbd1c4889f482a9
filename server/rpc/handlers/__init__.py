"""The methods on the wire, one module for each proto service."""
