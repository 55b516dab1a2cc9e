"""How effects other than the detector's response are measured and undone."""
