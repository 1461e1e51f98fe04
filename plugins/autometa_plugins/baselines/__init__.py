"""Bundled plugin: baselines."""
