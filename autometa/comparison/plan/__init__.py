"""What a comparison is going to do."""
