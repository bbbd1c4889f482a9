"""The wire contract, generated from `protos/`; run `python protos/generate.py`, never edit."""
