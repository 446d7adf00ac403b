"""Owns removing, before anything reads them, the headers of a client's request that this gateway itself trusts."""

from __future__ import annotations

from collections.abc import Sequence

from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.extensions.http.early_header_mutation.header_mutation import v3 as early
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any

from paymesh.payments.internal_names import INTERNAL_HEADER_PREFIX

REMOVED_PREFIXES = (INTERNAL_HEADER_PREFIX, "x-envoy-")


def early_header_mutation(more: Sequence[str] = ()) -> core.TypedExtensionConfig:
    """x-pay-* and x-envoy-* by prefix; x-request-id, so that Envoy mints one that no client chose; and `more`."""
    mutations = [
        mutation_rules.HeaderMutation(
            remove_on_match=mutation_rules.HeaderMutationRemoveOnMatch(
                key_matcher=matcher.StringMatcher(prefix=prefix, ignore_case=True)
            )
        )
        for prefix in REMOVED_PREFIXES
    ]
    mutations += [mutation_rules.HeaderMutation(remove=name) for name in ("x-request-id", *more)]
    return core.TypedExtensionConfig(
        name="envoy.http.early_header_mutation.header_mutation",
        typed_config=Any.pack(early.HeaderMutation(mutations=mutations)),
    )
