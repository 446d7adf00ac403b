"""Two credentials in one Authorization header, as Envoy joins them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paymesh.payments.credentials.authorization import came_twice

WECHAT = 'WECHATPAY2-SHA256-RSA2048 mchid="1",nonce_str="a",signature="b/c==",timestamp="1",serial_no="2"'
ALIPAY = "ALIPAY-SHA256withRSA app_id=1,nonce=a,timestamp=1,sign=b/c=="


@pytest.mark.parametrize(
    "value",
    ["", "Bearer a.b.c", "Basic YTpi", WECHAT, WECHAT.replace(",", ", "), ALIPAY, 'Digest a = "1", b = "x, Bearer y"'],
)
def test_one(value: str) -> None:
    assert not came_twice([value])


@pytest.mark.parametrize("first", ["Bearer a.b.c", WECHAT, ALIPAY])
@pytest.mark.parametrize("second", ["Bearer d.e.f", WECHAT, ALIPAY])
@pytest.mark.parametrize("comma", [",", ", "])
def test_two(first: str, second: str, comma: str) -> None:
    assert came_twice([first + comma + second])
    assert came_twice([first, second])


@given(st.lists(st.text(max_size=200), max_size=3))
def test_any_text_is_judged(values: list[str]) -> None:
    assert came_twice(values) in (True, False)
