"""The web page of the gateway: HTML views for people, rendered on the server."""
