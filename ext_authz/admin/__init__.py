"""What an operator may ask of limits, and set for a while."""
