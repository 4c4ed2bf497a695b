"""Peers: independent programs that do the same work."""
