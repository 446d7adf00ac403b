"""The service in which merchants record payments that were taken elsewhere."""
