"""The command `mira-queue`: one file per command."""
