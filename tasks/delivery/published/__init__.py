"""Tools that read published visits: explain, diff, check and show."""
