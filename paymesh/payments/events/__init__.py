"""What was attempted and what came of it, kept for good."""
