"""Run every benchmark that the documentation quotes (`make bench`). Each one can also run alone."""

from __future__ import annotations

import subprocess
import sys

# (module, arguments): the options that produced the figures in the documentation.
BENCHES: tuple[tuple[str, ...], ...] = (
    ("bench.simulator",),
    ("bench.pool", "--slots", "3"),
    ("bench.pool", "--slots", "64", "--latency", "0.1"),
    ("bench.waits",),
    ("bench.webhook_kills",),
    ("bench.long_waits",),
    ("bench.bulk", "--full"),
    ("bench.gateway_files",),
    ("bench.gateway_jobs",),
    ("bench.page",),
)


def main() -> int:
    worst = 0
    for module, *arguments in BENCHES:
        print(f"\n== {module} {' '.join(arguments)}", flush=True)
        worst = max(worst, subprocess.run([sys.executable, "-m", module, *arguments], check=False).returncode)
    return worst


if __name__ == "__main__":
    sys.exit(main())
