"""`mira-queue doctor`: check everything that the queue needs, and name a fix for each problem."""

from mira_producer.cli.doctor.command import HELP_END, doctor

__all__ = ["HELP_END", "doctor"]
