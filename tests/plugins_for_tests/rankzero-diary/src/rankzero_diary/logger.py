"""A logger that holds a hook too."""

import rankzero
from rankzero.errors import RejectedError


@rankzero.hookimpl
def rankzero_run_started(run):
    with open(f"{run.dir}/diary.txt", "a", encoding="utf-8") as file:
        file.write("the logger's module was told too\n")


class DiaryLogger(rankzero.Logger):
    """Writes no metrics, and can refuse them."""

    def __init__(self, title="diary", refuses=False):
        self.title = title
        self.refuses = refuses

    @property
    def name(self):
        return self.title

    @property
    def version(self):
        return ""

    def log_metrics(self, metrics, step=None):
        if self.refuses:
            raise RejectedError("the page is full")

    def log_hyperparams(self, params, metrics=None):
        pass
