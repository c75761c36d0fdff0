"""`python -m slic`, as `torchrun -m slic` wants it."""

from slic.cli import main

if __name__ == "__main__":
    main()
