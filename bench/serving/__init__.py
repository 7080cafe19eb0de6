"""Servers side by side: the same network, the same requests, the same two cores."""
