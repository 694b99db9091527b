"""Training: settings, records, losses, the trainer; stages/ has one file for each command."""
