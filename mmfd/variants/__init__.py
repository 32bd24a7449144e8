"""How else a student can be taught than by one teacher with all it sees."""
