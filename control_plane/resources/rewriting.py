"""Owns which parts of a request's head Envoy writes anew on its way out. What may not be is refused with the policy."""

from __future__ import annotations

from envoy_data_plane.envoy.config.core import v3 as core

from paymesh.payments.policy.forwarding import Rewriting


def headers_to_add(rewriting: Rewriting) -> list[core.HeaderValueOption]:
    """In place of what the caller sent under these names."""
    return [
        core.HeaderValueOption(
            # Envoy reads %...% as a command; what a policy says is meant as it stands.
            header=core.HeaderValue(key=name, value=value.replace("%", "%%")),
            append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
        )
        for name, value in rewriting.added
    ]
