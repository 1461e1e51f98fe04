"""Bundled plugin: evolution, as a way to meta-train any learner and to find rules by which one learns."""
