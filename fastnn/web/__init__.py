"""The drawing page and its server (the extra `web`): guards in front, one thread that predicts, a page."""
