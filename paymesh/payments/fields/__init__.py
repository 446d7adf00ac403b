"""What fields of a message are, whether they are valid, and how they are hidden."""
