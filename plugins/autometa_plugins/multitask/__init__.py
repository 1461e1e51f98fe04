"""Bundled plugin: multitask."""
