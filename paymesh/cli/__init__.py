"""The `paymesh` command, the local stack and the demo."""
