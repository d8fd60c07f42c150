"""Delivery to the trackers."""
