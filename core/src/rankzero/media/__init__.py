"""Media: encoding and storing."""
