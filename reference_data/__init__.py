"""The default reference library: builds synthetic reference files in the SOC's formats."""
