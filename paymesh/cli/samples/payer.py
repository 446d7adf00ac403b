"""Owns the invented payer of whom the sample services tell, for a policy to hide. Refuses to know anybody real.

Every answer to a query carries it, unmasked, as a careless service would.
"""

from __future__ import annotations

from collections.abc import Mapping

PHONE = "13812341234"
EMAIL = "lilei@example.com"
NAME = "李雷"
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"

ALIPAY: Mapping[str, object] = {
    "buyer_logon_id": PHONE,
    "buyer_user_id": "2088102146225135",
    "buyer_user_name": NAME,
    "body": f"回执寄 {EMAIL}",
}
"""As members of an `alipay.trade.query` answer."""

WECHAT: Mapping[str, object] = {"payer": {"openid": OPENID}, "attach": f"送货前请致电 {PHONE}"}
"""As members of a WeChat Pay order."""

GENERIC: Mapping[str, object] = {"payer": {"name": NAME, "phone": PHONE, "email": EMAIL}}
