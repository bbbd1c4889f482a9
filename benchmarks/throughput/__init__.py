"""The speed of Choose and Reward, as a ratio to an RPC that does nothing."""
