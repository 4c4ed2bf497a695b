"""Views of webhook endpoints and deliveries."""
