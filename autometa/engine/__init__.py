"""Adapting many tasks at once, on whatever device there is."""
