"""zoo push: a run on the Hugging Face Hub, with a card that says what it is."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

from zoo.cli.console import Screen, print_json, put, talk
from zoo.cli.options import argument, flag, options, shared
from zoo.text import size


@dataclass(frozen=True)
class Flags:
    run: Path = argument("A finished run folder. It is exported first where it was not.")
    name: str = argument("Repository on the Hub: ORG/NAME. Made where it is not there.")
    public: bool = flag("Let anyone read it. Default: a new repository is private.", "Hub", False)
    licence: str = flag("Licence of the model, as apache-2.0. Default: none is stated.", "Hub", "")
    dry_run: bool = flag("Show what would be published, and publish nothing.", "Hub", False)
    trust_changed: bool = shared("trust_changed")
    json: bool = shared("json")


@options
def command(flags: Flags) -> None:
    """Publish a run on the Hugging Face Hub: its exported file, a model card, and what timm loads.

    Nothing of this machine is in it, and no photo or its name. Your token is that of `hf auth
    login` or HF_TOKEN. Example: zoo push runs/clothes your-name/clothes --licence apache-2.0
    """
    from zoo.disk import scratch
    from zoo.hub import push
    from zoo.run import Run

    push.check_name(flags.name)
    run = Run.open(flags.run, trusts=flags.trust_changed)
    with Screen(), scratch("push") as folder:
        files = push.gather(run, flags.name, folder, flags.licence, talk)
        for name, many in files.items():
            talk(f"{name:<18}{size(many):>10}")
        if flags.dry_run:
            talk((folder / push.CARD).read_text("utf-8"))
            talk(f"nothing was published; without --dry-run: {flags.name}")
            return
        done = push.upload(folder, flags.name, flags.public)
    talk(f"{'private' if done.private else 'anyone can read it'}: zoo pull hf-hub:{done.name}")
    print_json(asdict(done)) if flags.json else put(done.url)
