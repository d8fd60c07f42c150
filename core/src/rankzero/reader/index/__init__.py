"""What is known of runs without reading their whole journals: summaries and downsampled curves, kept in two files."""
