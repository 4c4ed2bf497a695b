"""HTTP gateway: OpenAI's API on the queue. It needs the extra `gateway`, and only `mira-queue serve` imports it."""
