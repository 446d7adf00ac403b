"""`python -m paymesh.ledger`: see `paymesh/ledger/server.py`."""

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # the flags' module imports grpc

from paymesh.ledger.server import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
