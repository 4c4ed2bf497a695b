"""Metrics of the queue for Prometheus, and the number of workers that a scaler should start."""
