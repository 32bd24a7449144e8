"""What is wrong with a run, before it begins."""
