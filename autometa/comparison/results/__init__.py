"""What a comparison found: tables and statistics."""
