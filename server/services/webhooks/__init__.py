"""Webhooks: events of experiments are posted to endpoints that the operator names in a file."""
