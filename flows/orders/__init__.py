"""Job orders of the SOC's scheduler: read, run, answered."""
