"""``python -m fastnn`` is the command ``fastnn``."""

from fastnn.cli import main

if __name__ == "__main__":
    main()
