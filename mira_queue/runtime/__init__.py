"""Code that all processes share: Celery configuration, logs, crash points, loading of settings."""
