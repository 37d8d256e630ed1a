"""Room limiting: where counters live. Limits and quotas are taken in one step, all or none."""
