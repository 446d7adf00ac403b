"""`python -m ext_proc`: see `ext_proc/server.py`."""

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # before grpc is imported

from ext_proc.server import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
