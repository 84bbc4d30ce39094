"""What happens to Python itself: modules loaded as a whole, processes started, sources told apart."""
