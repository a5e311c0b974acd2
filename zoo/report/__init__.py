"""Pictures of what the verbs found: plain arrays and names in, files out."""

import logging

# That it has no folder for its settings, or lists the typefaces, is no news of ours.
logging.getLogger("matplotlib").setLevel(logging.ERROR)
