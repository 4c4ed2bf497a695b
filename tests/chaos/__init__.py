"""`make chaos`: kill processes at random moments, then check the results. docs/chaos.md explains the scorecard.

The driver does not ask our ledger. It counts by itself: the jobs that producers recorded as accepted (journal.py), the
outcomes that were stored (result_monitor.py), the lines in the files, and the calls that the simulated API received.
"""
