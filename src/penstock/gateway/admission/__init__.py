"""Who may, who is next, and how many at once."""
