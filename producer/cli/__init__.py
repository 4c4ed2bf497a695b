"""The command `mira-queue`, one file for each of its commands."""

from producer.cli.app import main

__all__ = ["main"]
