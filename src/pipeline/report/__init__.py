"""Tables, figures, claims and the report, from what runs left behind."""
