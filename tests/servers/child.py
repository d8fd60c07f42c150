"""Functions for child processes of tests; a spawned process cannot import them from a test module."""


def log_fifty(run, first_step):
    """Log fifty rows, and try to finish a run that another process started."""
    for step in range(first_step, first_step + 50):
        run.log_metrics({"child": 1.0}, step)
    run.flush()
    run.finish("failed")


def log_and_close(logger):
    """Log a metric with an unpickled logger."""
    logger.log_metrics({"a": 1}, 1)
    logger.close()
