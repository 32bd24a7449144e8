"""Around the training step: loop, optimizer, hooks, shards, target cache."""
