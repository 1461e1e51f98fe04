"""Bundled plugin: model."""
