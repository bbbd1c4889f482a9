"""The tables and their SQL, one module for each."""
