"""`python -m zoo`: what torchrun starts."""

from zoo.cli import entry

if __name__ == "__main__":
    entry()
