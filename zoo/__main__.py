"""Where `zoo` begins, and `python -m zoo`, which torchrun starts."""

from zoo import watch


def entry() -> None:
    """The console script; signals are heard before anything is imported that takes time."""
    watch.listen()
    from zoo.cli import entry

    entry()


if __name__ == "__main__":
    entry()
