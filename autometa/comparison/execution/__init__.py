"""The work of a plan: studies, trials, final runs, processes."""
