"""`python -m paymesh.cli.samples trade|wechat|alipay|unionpay|card|offline`: one sample service until SIGTERM."""

from __future__ import annotations

import argparse
from pathlib import Path

from aiohttp import web

from paymesh.cli.samples.simulators import SIMULATORS
from paymesh.cli.samples.trade import build_trade
from paymesh.server.logs import configure_logging, stop_logging
from paymesh.server.startup import host_and_port


def main() -> None:
    parser = argparse.ArgumentParser(prog="paymesh.cli.samples")
    parser.add_argument("kind", choices=("trade", *SIMULATORS))
    parser.add_argument("--listen", required=True, metavar="HOST:PORT")
    parser.add_argument("--keys", required=True, type=Path, help="folder of the demo's keys")
    parser.add_argument("--version", default="v1", help="trade: told in every answer")
    parser.add_argument(
        "--database", type=Path, help="SQLite file of the books: trade's, shared by its versions; or a simulator's"
    )
    parser.add_argument("--wechat", default="", help="trade: base URL of the WeChat Pay simulator")
    parser.add_argument("--alipay", default="", help="trade: base URL of the Alipay simulator")
    args = parser.parse_args()
    if args.kind == "trade":
        if args.database is None:
            parser.error("trade needs --database")
        app = build_trade(args.database, args.version, args.wechat, args.alipay, args.keys)
    else:
        app = SIMULATORS[args.kind](args.keys, args.database)
    host, port = host_and_port(args.listen)
    configure_logging(args.kind, "info")
    try:
        # No access log: its lines would carry query strings.
        web.run_app(app, host=host, port=port, print=None, access_log=None, shutdown_timeout=3)
    finally:
        stop_logging()


if __name__ == "__main__":
    main()
