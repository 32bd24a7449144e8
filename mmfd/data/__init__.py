"""Images: found, decoded, drawn."""
