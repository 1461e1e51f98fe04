"""Bundled plugin: transfer."""
