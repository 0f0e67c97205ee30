"""Task-wise outer cross-validation of rivals on a grouped table."""
