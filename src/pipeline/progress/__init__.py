"""What a person sees while jobs run."""
