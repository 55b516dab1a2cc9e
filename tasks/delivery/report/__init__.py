"""The report: its contents, figures and pages."""
