"""Media: encode images, audio, tables and models, and store them as files."""
