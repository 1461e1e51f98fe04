"""Files of autometa: one container, one atomic writer, one language for components."""
