"""How one student learns from several teachers."""
