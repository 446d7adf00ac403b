"""xDS: snapshots, versions, streams."""
