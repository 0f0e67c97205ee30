"""What experiments are made of: panels of runs, their statistics beside theory, findings, and a store that resumes."""
