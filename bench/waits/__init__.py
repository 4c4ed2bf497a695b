"""CPU time and latency of waits for finished jobs."""
