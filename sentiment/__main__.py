"""`python -m sentiment`: the same as the `sentiment` command."""

from sentiment.cli import main

if __name__ == "__main__":
    main()
