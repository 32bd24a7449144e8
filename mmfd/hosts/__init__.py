"""What the host libraries do not promise, once each."""
