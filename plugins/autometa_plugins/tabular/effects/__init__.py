"""Parts of the learner ``mixed_effects``."""
