"""The local stack: Envoy, the services and the sample services under one supervisor."""
