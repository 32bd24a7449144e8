"""Images: which, in which order, as which pixels."""
