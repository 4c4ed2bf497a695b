"""Files and uploads, and the folders of the state directory that have them."""
