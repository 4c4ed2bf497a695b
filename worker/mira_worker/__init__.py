"""Everything that runs jobs: the Celery task, execution, the Mira client, the gate, leases, rescue."""
