"""How a gRPC service of paymesh lives: start, TLS, health, metrics, trace context, logs, drain. Decides nothing."""
