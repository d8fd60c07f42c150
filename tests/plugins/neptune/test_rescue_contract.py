"""The contract of importers, for the files of Neptune's 1.x client, neptune-scale and neptune-exporter."""

from plugins.neptune import rescue_samples as samples
from plugins.neptune.rescue_exports import export, row

from rankzero.testing import ImporterContract
from rankzero_neptune.importing.importer import NeptuneImporter


class Neptune(ImporterContract):
    def make_importer(self):
        return NeptuneImporter()


class TestClient(Neptune):
    def make_source(self, directory):
        """Keep the beginning of a log, with 10 losses; `grow_source` adds 20. What follows deletes data."""
        (log,) = samples.all_left(directory, "offline").rglob("data-1.log")
        lines = log.read_bytes().splitlines(keepends=True)
        first = next(number for number, line in enumerate(lines) if b'"training", "loss"' in line)
        type(self).later = lines[first + 10 : first + 30]
        log.write_bytes(b"".join(lines[: first + 10]))
        return "offline"

    def grow_source(self, directory):
        (log,) = directory.rglob("data-1.log")
        with open(log, "ab") as file:
            file.writelines(self.later)


class TestScale(Neptune):
    def make_source(self, directory):
        """Keep the file of the first process; `grow_source` adds that of the second."""
        logs = samples.all_left(directory, "scale", "scale_resumed") / "scale_resumed" / "logs"
        _, later = sorted(logs.iterdir(), key=lambda path: int(path.name.rpartition("_")[2]))
        type(self).later = {path.name: path.read_bytes() for path in later.iterdir()}
        for path in later.iterdir():
            path.unlink()
        type(self).directory = later.relative_to(directory)
        return "."

    def grow_source(self, directory):
        for name, content in self.later.items():
            (directory / self.directory / name).write_bytes(content)


class TestExport(Neptune):
    def make_source(self, directory):
        files = directory / "files" / "digits" / "DIG-1"
        files.mkdir(parents=True)
        (files / "model.ckpt").write_bytes(samples.CHECKPOINT)
        self.write(directory, 0, row("model", "file", {"path": "DIG-1/model.ckpt"}), row("n", "int", 2**60))
        return "."

    def grow_source(self, directory):
        self.write(directory, 1)

    def write(self, directory, part, *more):
        rows = [row("loss", "float_series", step / 7, step, 1e9 + step) for step in range(20 * part, 20 * part + 20)]
        export(directory / "data" / "digits" / f"DIG-1_part_{part}.parquet", [*more, *rows])
