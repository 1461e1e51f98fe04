"""Bases that task samplers are built from: episodes of classes, images, random draws."""
