"""gRPC: the server, the one way for every call, and the protocols."""
