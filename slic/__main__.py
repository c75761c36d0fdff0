"""Entry point of `python -m slic` and `torchrun -m slic`."""

from slic.cli import main

if __name__ == "__main__":
    main()
