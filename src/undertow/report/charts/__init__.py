"""Charts of the reports: each module makes the figures of one subject from the records."""
