"""How close calls get to an account's unknown limits, compared with peers: `python -m bench.pacing --help`."""
