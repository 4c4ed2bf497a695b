"""Delivery of webhooks: which events go to which receiver, one attempt, and what follows from it."""
