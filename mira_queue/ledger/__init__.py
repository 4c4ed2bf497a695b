"""The durable record of every job, and the only code that touches our Redis keys."""
