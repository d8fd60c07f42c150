"""Delivery of a run to trackers: couriers, retry, reject list, supervision, sync."""
