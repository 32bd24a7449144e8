"""What happens around the step."""
