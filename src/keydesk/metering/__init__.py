"""Room metering: how often keys are used. Requests count in memory; a thread writes the counts down in batches."""
