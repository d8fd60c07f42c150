"""What frameworks need to work with rankzero; a module for each, which imports nothing of it by itself."""
