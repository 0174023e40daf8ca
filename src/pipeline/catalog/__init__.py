"""What exists, for validation and planning before any job: no torch."""
