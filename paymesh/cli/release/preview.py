"""Owns how "what if these were the weights" is answered: shares by version, and the merchants that would move."""

from __future__ import annotations

from control_plane.releases import releases_pb2 as pb
from paymesh.cli.release.values import amounts, percent, plain
from paymesh.cli.table import table_lines

MOVES_SHOWN = 20


def preview_lines(service: str, answer: pb.PreviewResponse) -> list[str]:
    """Says that nothing was changed, as the last line."""
    shares = [("VERSION", "SET", "NEW", "PAYMENTS", "AMOUNT")]
    for one in answer.versions:
        weights = percent(one.set_weight), percent(one.new_weight)
        shares.append((plain(one.version), *weights, str(one.payments), amounts(one.amount)))
    seen = f"of {answer.payments_seen} payments ({amounts(answer.amount_seen)}) of the last hour"
    lines = [f"{service}, {seen}:", *table_lines(shares), ""]
    if answer.moves:
        moves = [("MERCHANT", "FROM", "TO", "PAYMENTS", "AMOUNT")]
        for move in answer.moves[:MOVES_SHOWN]:
            names = plain(move.merchant), plain(getattr(move, "from")), plain(move.to)
            moves.append((*names, str(move.payments), amounts(move.amount)))
        lines += table_lines(moves)
    hidden = len(answer.moves) - MOVES_SHOWN
    if hidden > 0:
        lines.append(f"... and {hidden} more (-o json shows them)")
    lines.append(
        f"{len(answer.moves)} of {answer.merchants_seen} merchants seen lately would move; nothing was changed"
    )
    return lines
