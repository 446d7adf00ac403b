"""Owns finding an adapter by the name that a policy gives it. Refuses what is no adapter, before any request comes.

A name without a colon is one of ours; `package.module:OBJECT` is anybody's, so that a channel of one's own is one file
on the Python path and its policy. Modules named so run inside the gateway, as the policy's author decides.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import cast

from paymesh.payments.adapters.alipay_v2 import ALIPAY_V2
from paymesh.payments.adapters.contract import Adapter, Capabilities
from paymesh.payments.adapters.unionpay import UNIONPAY
from paymesh.payments.adapters.wechat_v3 import WECHAT_V3

ADAPTERS: Mapping[str, Adapter] = {adapter.name: adapter for adapter in (ALIPAY_V2, UNIONPAY, WECHAT_V3)}

_METHODS = ("identity_problems", "problems", "write_pay", "write_query", "write_refund", "write_close", "read_answer")


class AdapterUnknown(Exception):  # noqa: N818 - it names what was asked for
    """No such adapter; the message says what is wrong with the name."""


def find_adapter(name: str) -> Adapter:
    """The adapter of that name. Raises AdapterUnknown."""
    module, colon, attribute = name.partition(":")
    if not colon:
        if name in ADAPTERS:
            return ADAPTERS[name]
        raise AdapterUnknown(
            f"is none of {', '.join(sorted(ADAPTERS))}; one of your own is named package.module:OBJECT"
        )
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:  # whatever a stranger's module raises while it is imported
        raise AdapterUnknown(f"cannot be imported ({type(error).__name__}: {error})") from error
    missing = [method for method in _METHODS if not callable(getattr(found, method, None))]
    if not isinstance(getattr(found, "capabilities", None), Capabilities):
        missing.insert(0, "capabilities")
    if missing:
        raise AdapterUnknown(f"is no adapter: it lacks {', '.join(missing)}")
    return cast(Adapter, found)
