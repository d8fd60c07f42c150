"""What training gives off by itself."""
