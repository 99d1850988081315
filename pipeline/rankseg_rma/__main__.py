"""``python -m rankseg_rma``."""

from rankseg_rma.cli import main

if __name__ == "__main__":
    main()
