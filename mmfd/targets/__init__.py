"""What a student learns of its teacher: the targets."""
