"""`python -m paymesh.cli`: the `paymesh` command."""

from paymesh.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
