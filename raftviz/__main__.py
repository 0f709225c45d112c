"""``python -m raftviz``."""

from raftviz.cli import main

if __name__ == "__main__":
    main(prog_name="raftviz")
