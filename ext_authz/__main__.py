"""`python -m ext_authz`: see `ext_authz/server.py`."""

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # before grpc is imported

from ext_authz.server import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
