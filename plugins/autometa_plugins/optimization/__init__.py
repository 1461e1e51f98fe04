"""Bundled plugin: optimization."""
