"""Job orders of the SOC's scheduler: reading, processing, logging, trigger files."""
