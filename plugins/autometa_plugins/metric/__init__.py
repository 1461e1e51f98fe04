"""Bundled plugin: metric."""
