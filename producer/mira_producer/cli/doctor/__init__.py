"""`mira-queue doctor`: is everything there that the queue needs, and if not, what is to be done?"""

from mira_producer.cli.doctor.command import HELP_END, doctor

__all__ = ["HELP_END", "doctor"]
