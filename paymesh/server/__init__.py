"""How a gRPC service lives: start, TLS, health, metrics, trace context, logs, drain, stop."""
