"""The handlers of RPC methods, one module for each proto service."""
