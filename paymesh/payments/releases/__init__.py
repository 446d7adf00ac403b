"""Moving a service from one version to the next: what was planned, where it stands, and what to do now."""
