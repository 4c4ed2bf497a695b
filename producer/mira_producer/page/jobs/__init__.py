"""Views of single jobs: the list, one job, and actions on all that match."""
