"""`python -m tests.chaos.gateway`: kill the gateway and all that is behind it, and check every object and webhook.

Clients are the official SDK with its retries. The counts come from the clients, the receiver of the webhooks, the
simulated API, and the gateway's own lists. docs/chaos.md explains the scorecard.
"""
