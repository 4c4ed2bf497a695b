"""What processes share that is not a value: Celery configuration, logs, crash points, loading of settings."""
