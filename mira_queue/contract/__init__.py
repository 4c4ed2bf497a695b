"""What producer and worker agree on. Imports nothing of ours, does no I/O."""
