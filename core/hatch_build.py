"""The extras that install the trackers' plugins: from the checkout, or from an index."""

import os
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

FIELD = "optional-dependencies"


class PluginExtras(MetadataHookInterface):
    """Refer to the plugins beside this package while pip installs it from a checkout.

    Only pip gets such references. uv knows the packages of its workspace, and what other tools build may be released:
    an index accepts none of them.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        if FIELD in metadata:  # an sdist, which has its own; what lies beside it is anybody's
            return
        extras = metadata[FIELD] = dict(self.config[FIELD])
        if "PIP_BUILD_TRACKER" in os.environ:  # pip sets it for the builds that it starts
            for name in extras:
                plugin = Path(self.root).parent / "plugins" / name
                if plugin.is_dir():
                    extras[name] = [f"rankzero-{name} @ {plugin.as_uri()}"]
