"""`python -m fluoroscope`: the command line."""

from fluoroscope.cli import main

if __name__ == "__main__":
    main()
