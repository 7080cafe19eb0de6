"""Numbers and pictures out of the bodies of requests: strict, bounded, fast."""
