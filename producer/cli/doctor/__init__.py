"""`mira-queue doctor`: is everything there that the queue needs, and if not, what is to be done?"""

from producer.cli.doctor.command import HELP_END, doctor

__all__ = ["HELP_END", "doctor"]
