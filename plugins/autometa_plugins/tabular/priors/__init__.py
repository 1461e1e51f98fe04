"""Priors of tables: task samplers whose every task is a table of its own, drawn at random."""
