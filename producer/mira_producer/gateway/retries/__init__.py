"""Recognized retries: the identity of a request, and what its retries get."""
