"""`python -m control_plane`: see `control_plane/server.py`."""

from paymesh.server import grpc_experiments

grpc_experiments.apply()  # before grpc is imported

from control_plane.server import main  # noqa: E402

if __name__ == "__main__":
    raise SystemExit(main())
