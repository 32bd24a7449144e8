"""What can be teacher or student."""
