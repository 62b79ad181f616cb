"""What everything may use: errors, files, processes, progress, templates, secrets."""
