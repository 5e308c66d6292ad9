"""All evidence in few unattended runs: tests, default bench, gate and study, each going on where it was cut."""
