"""What an outage of the database costs callers of Choose and Reward."""
