"""Plugins that are installed for a test."""


def write_plugin(place, distribution, entry_points, version="1.0", requires=(), **modules):
    """Write the files of an installed distribution: its description, its entry points, and modules with their texts."""
    info = place / f"{distribution.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    lines = [f"{name} = {target}" for name, target in entry_points.items()]
    (info / "entry_points.txt").write_text("\n".join(["[other]", "x = y", "", "[rankzero]", *lines, ""]))
    header = ["Metadata-Version: 2.1", f"Name: {distribution}", f"Version: {version}"]
    (info / "METADATA").write_text("\n".join([*header, *(f"Requires-Dist: {each}" for each in requires), ""]))
    for module, text in modules.items():
        (place / f"{module}.py").write_text(text)
