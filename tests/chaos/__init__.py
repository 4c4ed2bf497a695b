"""`make chaos`: kill everything at random moments, then add up. docs/chaos.md explains the scorecard.

It keeps a count of truth of its own: what producers wrote down as accepted (journal.py), what was stored as an outcome
and when (witness.py), which lines stand in the files, and which calls the simulated API saw. It never asks our ledger.
"""
