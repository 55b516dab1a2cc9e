"""One run of a visit: from the request to the outcome, whatever it is."""
