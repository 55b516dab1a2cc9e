"""The viewer: one HTML file with all that it needs inside."""
