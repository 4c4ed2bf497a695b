"""The HTML report of a batch, and the record that it is drawn from."""
