"""The results of a comparison: tables and statistics."""
