"""Stock Celery under the same faults: a task as Celery's documentation recommends, without our code."""
