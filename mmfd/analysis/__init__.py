"""What distillation did to the features of a network."""
