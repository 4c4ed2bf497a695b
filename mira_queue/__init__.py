"""mira-queue: what producer and worker share. `contract` is what they agree on, `ledger` the record they keep."""
