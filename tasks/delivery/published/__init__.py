"""Published visits: read again, checked, compared, taken apart."""
