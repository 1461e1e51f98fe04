"""Rows of related tasks as a context, beside the rows of the task itself."""
