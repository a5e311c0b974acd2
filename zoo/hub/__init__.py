"""A run on the Hugging Face Hub: pushed as files that say nothing of this machine, and pulled.

    push.py  what is published, and the upload
    card.py  README.md: what it is, how good, on what it was measured, how it was made
    pull.py  the exported file of a repository, verified

What is published is model.onnx, which `zoo predict` takes without torch; README.md, confusion.png
and zoo.json, the facts and the sha256 of each file; and for timm's networks what timm loads.
"""

FACTS = "zoo.json"  # in a repository: the facts of a run, and the sha256 of the other files
MODEL = "model.onnx"
