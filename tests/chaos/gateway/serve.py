"""`mira-queue serve` as a child of the driver: it exits with the driver."""

from __future__ import annotations

from mira_producer.cli.app import main

from tests.chaos.child import end_with_driver

if __name__ == "__main__":
    end_with_driver()
    main()
