"""Arrays only: geometry, times, orbits, robust statistics."""
