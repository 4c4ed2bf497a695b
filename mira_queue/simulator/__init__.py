"""A local Mira API for trials, tests and benchmarks: `python -m mira_queue.simulator --help`.

It runs in a process of its own and shares no code with the queue.
"""
