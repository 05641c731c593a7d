"""Random schedules of crashes, cancellations, retries and concurrent runs, judged one by one."""
