"""Where each artifact lives, and how it is written and read."""
