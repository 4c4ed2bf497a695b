"""Values that producer and worker agree on. The package imports nothing of ours and does no I/O."""
