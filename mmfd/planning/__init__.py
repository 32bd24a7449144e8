"""What a run will need: counted, planned and measured."""
