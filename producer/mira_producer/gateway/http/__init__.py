"""HTTP: bounds of requests and connections, JSON and errors in OpenAI's format, and pages of lists."""
