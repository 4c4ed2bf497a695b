"""The OpenAPI document: what each endpoint tells about itself, and how it becomes one document."""
