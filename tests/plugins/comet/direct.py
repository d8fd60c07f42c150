"""Direct use, without automatic logging of this process by Comet's client."""

QUIET = {
    "project": "p",
    "display_summary_level": 0,
    "auto_output_logging": False,
    **dict.fromkeys(("log_code", "log_env_details", "log_git_metadata", "log_git_patch", "parse_args"), False),
}


def logged(stored, *names):
    """Return (name, step, value) of an experiment's metrics in order, with these names or of the user."""
    found = [(each.name, each.step, each.value) for each in stored.metrics]
    return [each for each in found if each[0] in names or (not names and not each[0].startswith(("sys.", "process ")))]


def params(stored):
    """Return an experiment's params without those that Comet's client adds."""
    return {name: value for name, value in stored.params.items() if name not in ("curr_step", "curr_epoch")}
