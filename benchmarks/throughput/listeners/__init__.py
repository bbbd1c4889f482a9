"""Both listeners and two bare echoes under one cheap load: CPU a call, the rate of one core, latencies."""
