"""`mira-queue run`: a file of requests in, a file of answers out, whatever happens on the way."""
