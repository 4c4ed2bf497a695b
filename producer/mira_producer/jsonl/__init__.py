"""Files of JSON lines: requests in, answers and errors out."""
