"""What every service stands on: time, threads, and files."""
