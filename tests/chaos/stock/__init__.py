"""Stock Celery under the same blows: a task as Celery's documentation advises, and nothing of ours around it."""
