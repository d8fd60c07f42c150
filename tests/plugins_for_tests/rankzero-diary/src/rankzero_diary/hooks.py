"""Every hook once: three write a line into ``diary.txt`` in the run's directory, one filters, two offer."""

import msgspec

import rankzero
from rankzero.events.structs import Metrics, Params


@rankzero.hookimpl
def rankzero_run_started(run):
    write(run.dir, f"started {run.name}")


@rankzero.hookimpl
def rankzero_run_finished(run, status):
    write(run.dir, f"finished {run.name}: {status}")


@rankzero.hookimpl
def rankzero_delivery_failed(run_info, logger, error, retrying):
    write(run_info.dir, f"{logger}: {error} ({'trying again' if retrying else 'given up'})")


@rankzero.hookimpl
def rankzero_event_filter(run):
    return tidy


@rankzero.hookimpl
def rankzero_importers():
    from rankzero_diary.importing import DiaryImporter

    return {"diary": DiaryImporter}


@rankzero.hookimpl
def rankzero_exporters():
    return None  # a plugin need not have any


def tidy(event):
    """Rename ``val_loss``, drop what is about debugging, redact e-mail addresses."""
    if isinstance(event, Metrics):
        values = {key: value for key, value in event.values.items() if not key.startswith("debug/")}
        if "val_loss" in values:
            values["val/loss"] = values.pop("val_loss")
        return msgspec.structs.replace(event, values=values) if values else None
    if isinstance(event, Params) and "email" in event.values:
        return msgspec.structs.replace(event, values={**event.values, "email": "(redacted)"})
    return event


def write(directory, line):
    with open(f"{directory}/diary.txt", "a", encoding="utf-8") as file:
        file.write(f"{line}\n")
