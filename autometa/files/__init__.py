"""Files of autometa: one container, one atomic writer, components as JSON for plans and for saved estimators."""
