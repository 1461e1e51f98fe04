"""Bundled plugin: tasks."""
