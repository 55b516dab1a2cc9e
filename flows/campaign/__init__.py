"""Many visits: each in a process of its own, on this machine or on many, under existing engines."""
