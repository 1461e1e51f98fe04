"""The plan of a comparison: task distributions, learners, search spaces, settings."""
