"""Everything that a person or a web app uses: the clients, the command line, batches, and reports."""
