"""A Mira API of one's own, for trying, testing and benchmarks: `python -m mira_queue.simulator --help`.

It shares nothing with the queue: it is somebody else's server, in a process of its own.
"""
