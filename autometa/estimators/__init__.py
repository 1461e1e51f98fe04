"""scikit-learn estimators around everything below."""
