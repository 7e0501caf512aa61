"""The verbs of monitoring, by what they change: incidents, monitors, retraining, rethinks."""
