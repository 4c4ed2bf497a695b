"""Webhooks over HTTP: endpoints and deliveries, and the task that delivers."""
