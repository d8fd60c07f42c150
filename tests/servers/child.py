"""What child processes of tests do; a spawned one imports it from here, which it cannot from a test module."""


def log_fifty(run, first_step):
    """Log fifty rows, and try to end a run that another process began."""
    for step in range(first_step, first_step + 50):
        run.log_metrics({"child": 1.0}, step)
    run.flush()
    run.finish("failed")


def log_and_close(logger):
    """Log a metric with a logger that came by pickle."""
    logger.log_metrics({"a": 1}, 1)
    logger.close()
