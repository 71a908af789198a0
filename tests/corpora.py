"""Where real recordings lie, for tests that are only collected when there are any."""

import os
import pathlib


def corpora_dir() -> pathlib.Path | None:
    """Return KWS_CORPORA if set, else `../shared/data` beside the checkout if there, else None."""
    if named := os.environ.get("KWS_CORPORA"):
        return pathlib.Path(named)
    beside = pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"
    return beside if beside.is_dir() else None
