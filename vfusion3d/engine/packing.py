"""Finished items to a shard set that training reads, and their labels beside it."""
