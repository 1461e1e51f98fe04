"""Bundled plugin: backbones."""
