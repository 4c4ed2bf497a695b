"""What our processes share that is not a value: Celery configuration, logs, crash points."""
