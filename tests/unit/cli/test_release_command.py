"""`paymesh release` as a person types it: what is asked of the control plane, what is printed, and what is refused."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import grpc
import pytest

from control_plane.admin import admin_pb2
from control_plane.releases import releases_pb2 as pb
from paymesh.cli.main import main
from tests.unit.cli.scripted_releases import Refused, Script, a_release, serving

WHY = ("--reason", "a try", "--actor", "me")


def run(script: Script, *arguments: str) -> int:
    return main(["release", *arguments, "--admin", script.address])


class TestList:
    def test_a_row_a_release(self, capsys: pytest.CaptureFixture[str]) -> None:
        others = a_release(name="card-v3", service="card", phase="applying", actual_weight=None, verdict="", step=5)
        with serving(List=pb.ListResponse(releases=[a_release(), others])) as script:
            assert run(script, "list") == 0
        assert [line.split() for line in capsys.readouterr().out.splitlines()] == [
            ["NAME", "SERVICE", "STRATEGY", "VERSIONS", "PHASE", "STEP", "SET", "ACTUAL", "VERDICT"],
            ["trade-v2", "trade", "canary", "v1", "->", "v2", "holding", "4/5", "10.00%", "10.00%", "pass"],
            ["card-v3", "card", "canary", "v1", "->", "v2", "applying", "5/5", "10.00%", "differs", "-"],
        ]

    def test_none_yet(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(List=pb.ListResponse()) as script:
            assert run(script, "list") == 0
            assert "(no release yet)" in capsys.readouterr().out
            assert run(script, "list", "-o", "json") == 0
            assert json.loads(capsys.readouterr().out) == []

    def test_json_has_every_key(self, capsys: pytest.CaptureFixture[str]) -> None:
        empty = pb.Release(name="trade-v2")
        with serving(List=pb.ListResponse(releases=[empty])) as script:
            assert run(script, "list", "-o", "json") == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert found.keys() == {one.name for one in pb.Release.DESCRIPTOR.fields} - {"actual_weight"}
        assert (found["set_weight"], found["over"], found["changed_at"], found["steps"]) == (0, False, "0", [])


class TestGet:
    def test_the_view(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=a_release(drill="aborts 1.00% with 503")) as script:
            assert run(script, "get", "trade-v2") == 0
        assert script.requests("Get") == [pb.GetRequest(name="trade-v2")]
        lines = capsys.readouterr().out.splitlines()
        assert lines == [
            "Name:         trade-v2",
            "Service:      trade, v1 -> v2, canary",
            "Phase:        holding until 2026-01-02T03:04:05Z (over)",
            "Why:          every check passed",
            "Changed:      2026-01-02T02:59:05Z",
            "SetWeight:    10.00%",
            "ActualWeight: 10.00%",
            "Verdict:      pass",
            "Pins:         2",
            "Drill:        aborts 1.00% with 503",
            "",
            "VERSION  REQUESTS  ERRORS  PAYMENTS  SUCCESS  P99    AMOUNT               REQUESTS/ERRORS LATELY",
            "v1       90000     9       80000     99.99%   42 ms  88.88 CNY + 500 JPY  ▃▅▆█ ▁▁█▁",
            "v2       0         0       0         -        -      -                    -",
            "",
            "CHECK    VERDICT  WHY",
            "success  pass     worse by 0.12% at most, 0.50% allowed",
            "",
            "Steps (3 of 5 done)",
            "  ✔  1  weight 1.00%",
            "  ✔  2  hold 5m",
            "  ✔  3  weight 10.00%",
            "  ▶  4  hold 5m",
            "  ·  5  gate",
        ]

    def test_weights_that_differ(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=a_release(actual_weight=None)) as script:
            assert run(script, "get", "trade-v2") == 0
            assert "ActualWeight: differs" in capsys.readouterr().out
            assert run(script, "get", "trade-v2", "-o", "json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["set_weight"] == 1000
        assert "actual_weight" not in found

    def test_ascii_where_the_terminal_has_no_more(self, monkeypatch: pytest.MonkeyPatch) -> None:
        printed = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
        with serving(Get=a_release(why="商户要求")) as script:
            assert run(script, "get", "trade-v2") == 0
        shown = printed.getvalue().decode("ascii")
        assert "  >  4  hold 5m" in shown
        assert ":=+# __#_" in shown
        assert "Why:          ????" in shown

    def test_what_others_wrote_steers_no_terminal(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Get=a_release(why="\x1b[2Jgone\nand more")) as script:
            assert run(script, "get", "trade-v2") == 0
        assert "Why:           [2Jgone and more" in capsys.readouterr().out


class TestReading:
    def test_history(self, capsys: pytest.CaptureFixture[str]) -> None:
        entry = pb.Entry(at=1_767_322_745, who="lena", what="pause: a look", phase="paused", step=3, set_weight=1000)
        with serving(History=pb.HistoryResponse(entries=[entry], steps=5)) as script:
            assert run(script, "history", "trade-v2") == 0
            rows = [line.split() for line in capsys.readouterr().out.splitlines()]
            assert rows[1] == ["2026-01-02T02:59:05Z", "lena", "paused", "4/5", "10.00%", "pause:", "a", "look"]
            assert run(script, "history", "trade-v2", "-o", "json") == 0
        (found,) = json.loads(capsys.readouterr().out)
        assert (found["who"], found["set_weight"]) == ("lena", 1000)

    def test_receipt(self, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Receipt=pb.ReceiptResponse(markdown="# trade-v2\n\n- by lena\n")) as script:
            assert run(script, "receipt", "trade-v2") == 0
            assert capsys.readouterr().out == "# trade-v2\n\n- by lena\n"
            assert run(script, "receipt", "trade-v2", "-o", "json") == 0
        assert json.loads(capsys.readouterr().out) == {"markdown": "# trade-v2\n\n- by lena\n"}


class TestApply:
    def test_the_document_goes_as_it_is(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "trade.yaml"
        file.write_text("release: trade-v2\n# 交易\n", encoding="utf-8")
        with serving(Apply=a_release()) as script:
            assert run(script, "apply", "-f", str(file), *WHY) == 0
        text = "release: trade-v2\n# 交易\n"
        assert script.requests("Apply") == [pb.ApplyRequest(file_name=str(file), text=text, reason="a try", actor="me")]
        assert capsys.readouterr().out == (
            "trade-v2: holding; step 4 of 5 (hold 5m); set 10.00%, actual 10.00%; verdict pass; every check passed\n"
        )

    def test_every_fault_is_shown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        file = tmp_path / "trade.yaml"
        file.write_text("{}")
        faults = "trade.yaml:1: release: is required\ntrade.yaml:1: service: is required"
        with serving(Apply=Refused(grpc.StatusCode.INVALID_ARGUMENT, faults)) as script:
            assert run(script, "apply", "-f", str(file), *WHY) == 2
        assert capsys.readouterr().err == f"{faults}\n"

    @pytest.mark.parametrize(("content", "said"), [(None, "No such file"), (b"\xff\xfe", "is not UTF-8")])
    def test_a_file_that_cannot_be_read(
        self, tmp_path: Path, content: bytes | None, said: str, capsys: pytest.CaptureFixture[str]
    ) -> None:
        file = tmp_path / "trade.yaml"
        if content is not None:
            file.write_bytes(content)
        with serving() as script:
            assert run(script, "apply", "-f", str(file), *WHY) == 2
        assert f"{file}: " in (shown := capsys.readouterr().err)
        assert said in shown


@pytest.mark.parametrize(
    ("typed", "command"),
    [
        (["pause"], "pause"),
        (["resume"], "resume"),
        (["promote"], "promote"),
        (["promote", "--full"], "promote_full"),
        (["abort"], "abort"),
        (["undo"], "undo"),
        (["freeze"], "freeze"),
        (["retry"], "retry"),
    ],
)
def test_a_person_steers(typed: list[str], command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with serving(Tell=a_release(phase="paused")) as script:
        assert run(script, *typed, "trade-v2", *WHY) == 0
        assert capsys.readouterr().out.startswith("trade-v2: paused; step 4 of 5")
        assert run(script, *typed, "trade-v2", *WHY, "-o", "json") == 0
        assert json.loads(capsys.readouterr().out)["phase"] == "paused"
    assert script.requests("Tell")[0] == pb.TellRequest(name="trade-v2", command=command, reason="a try", actor="me")


class TestDrill:
    @pytest.mark.parametrize(
        ("typed", "asked"),
        [
            (["--abort", "0.5", "--status", "503"], {"abort_share": 50, "abort_status": 503}),
            (["--delay", "100", "--by", "1500"], {"delay_share": 10_000, "delay_ms": 1500}),
            (["--end"], {}),
        ],
    )
    def test_what_is_asked(self, typed: list[str], asked: dict[str, int]) -> None:
        with serving(Drill=a_release(drill="some")) as script:
            assert run(script, "drill", "trade-v2", *typed, *WHY) == 0
        assert script.requests("Drill") == [pb.DrillRequest(name="trade-v2", reason="a try", actor="me", **asked)]

    @pytest.mark.parametrize(
        "typed",
        [
            [],
            ["--abort", "1"],
            ["--by", "5"],
            ["--end", "--abort", "1", "--status", "503"],
            ["--abort", "0", "--status", "503"],
            ["--abort", "100.01", "--status", "503"],
            ["--abort", "0.001", "--status", "503"],
            ["--abort", "1", "--status", "404"],
            ["--delay", "1", "--by", "-1"],
        ],
    )
    def test_what_does_not_fit_is_usage(self, typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as script, pytest.raises(SystemExit) as ended:
            run(script, "drill", "trade-v2", *typed, *WHY)
        assert ended.value.code == 2
        assert script.asked == []
        assert "drill: error:" in capsys.readouterr().err


def _weights(**weights: int) -> list[admin_pb2.VersionWeight]:
    return [admin_pb2.VersionWeight(version=version, weight=weight) for version, weight in weights.items()]


def _status(actual: int) -> admin_pb2.StatusResponse:
    version = admin_pb2.VersionStatus(version="v2", set_weight=25, actual_weight=actual)
    return admin_pb2.StatusResponse(services=[admin_pb2.ServiceStatus(service="trade", versions=[version])])


SET = admin_pb2.SetWeightResponse(before=_weights(v1=10_000, v2=0), after=_weights(v1=9_975, v2=25))


@pytest.mark.parametrize("verb", [["set-weight"], ["release", "set-weight"]])
class TestSetWeight:
    def run(self, script: Script, verb: list[str], *arguments: str) -> int:
        return main([*verb, "trade", "v1=99.75", "v2=0.25", *arguments, "--admin", script.address])

    def test_set_and_confirmed(self, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving(SetWeight=SET, Status=[_status(0), _status(25)]) as script:
            assert self.run(script, verb, *WHY) == 0
            shown = capsys.readouterr().out
            assert shown == "trade: v1=100.00% v2=0.00% -> v1=99.75% v2=0.25%\nconfirmed by every node\n"
            assert self.run(script, verb, *WHY, "-o", "json") == 0
        found = json.loads(capsys.readouterr().out)
        assert found["after"] == [{"version": "v1", "weight": 9975}, {"version": "v2", "weight": 25}]
        assert found["confirmed"] is True
        asked = admin_pb2.SetWeightRequest(service="trade", weights={"v1": 9975, "v2": 25}, reason="a try", actor="me")
        assert script.requests("SetWeight") == [asked, asked]

    def test_not_confirmed(self, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving(SetWeight=SET, Status=_status(0)) as script:
            assert self.run(script, verb, *WHY, "--wait", "1") == 1
            assert "not confirmed by every node within 1 s" in capsys.readouterr().err
            assert self.run(script, verb, *WHY, "--wait", "0") == 0

    def test_a_preview_changes_nothing(self, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        answer = pb.PreviewResponse(
            versions=[
                pb.VersionShare(version="v1", set_weight=10_000, new_weight=9_975, payments=50),
                pb.VersionShare(version="v2", new_weight=25, payments=3, amount=[pb.Money(currency="CNY", amount=101)]),
            ],
            moves=[pb.Move(**{"merchant": f"m{n}", "from": "v1", "to": "v2", "payments": 1}) for n in range(22)],
            merchants_seen=40,
            payments_seen=53,
            amount_seen=[pb.Money(currency="XXX", amount=7)],
        )
        with serving(Preview=answer) as script:
            assert self.run(script, verb, "--preview") == 0
            lines = capsys.readouterr().out.splitlines()
            assert self.run(script, verb, "--preview", "-o", "json") == 0
        assert lines[0] == "trade, of 53 payments (7 minor units of XXX) of the last hour:"
        assert lines[3].split() == ["v2", "0.00%", "0.25%", "3", "1.01", "CNY"]
        assert lines[6].split() == ["m0", "v1", "v2", "1", "-"]
        assert lines[-2:] == [
            "... and 2 more (-o json shows them)",
            "22 of 40 merchants seen lately would move; nothing was changed",
        ]
        assert len(json.loads(capsys.readouterr().out)["moves"]) == 22
        assert {method for method, _, _ in script.asked} == {"Preview"}
        assert script.requests("Preview")[0] == pb.PreviewRequest(service="trade", weights={"v1": 9975, "v2": 25})

    def test_a_reason_is_required(self, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as script, pytest.raises(SystemExit) as ended:
            self.run(script, verb)
        assert ended.value.code == 2
        assert "--reason" in capsys.readouterr().err
        assert script.asked == []

    def test_weights_are_exact(self, verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as script:
            assert main([*verb, "trade", "v1=99.755", "v2=0.245", *WHY, "--admin", script.address]) == 2
        assert "at most two decimals" in capsys.readouterr().err
        assert script.asked == []


class TestRefusals:
    @pytest.mark.parametrize("reason", ["", "  ", "x" * 1001])
    def test_a_reason_has_1_to_1000_characters(self, reason: str, capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as script, pytest.raises(SystemExit) as ended:
            run(script, "pause", "trade-v2", "--reason", reason)
        assert ended.value.code == 2
        assert "a reason has 1 to 1000 characters" in capsys.readouterr().err

    @pytest.mark.parametrize("action", ["apply", "pause", "promote", "abort", "undo", "freeze", "retry", "drill"])
    def test_every_change_has_a_reason(self, action: str, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(SystemExit) as ended:
            main(["release", action, *(["-f", "x"] if action == "apply" else ["trade-v2"])])
        assert ended.value.code == 2
        assert "--reason" in capsys.readouterr().err

    @pytest.mark.parametrize(
        ("refused", "said"),
        [
            (Refused(grpc.StatusCode.NOT_FOUND, "no release trade-v9"), "no release trade-v9"),
            (Refused(grpc.StatusCode.FAILED_PRECONDITION, "it is over: promoted"), "it is over: promoted"),
            (Refused(grpc.StatusCode.PERMISSION_DENIED, "bob is viewer"), "bob is viewer"),
            (Refused(grpc.StatusCode.UNAVAILABLE, "it cannot be recorded, so it is not done"), "it cannot be recorded"),
            (Refused(grpc.StatusCode.INTERNAL, ""), "INTERNAL"),
        ],
    )
    def test_a_status_is_one_clear_line(self, refused: Refused, said: str, capsys: pytest.CaptureFixture[str]) -> None:
        with serving(Tell=refused) as script:
            assert run(script, "abort", "trade-v9", *WHY) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(said)

    @pytest.mark.parametrize("typed", [["list"], ["get", "x"], ["get", "x", "--watch"], ["status", "x"]])
    def test_nobody_answers(self, typed: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        with serving() as script:
            pass
        assert run(script, *typed) == 2
        assert capsys.readouterr().err == (
            f"no control plane answers on {script.address} (--admin names another address)\n"
        )

    def test_a_token_is_shown(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        token = tmp_path / "token"
        token.write_text("s3cret\n")
        with serving(Get=a_release(), List=pb.ListResponse()) as script:
            assert run(script, "get", "trade-v2", "--admin-token-file", str(token)) == 0
            assert run(script, "list", "--admin-token-file", str(token)) == 0
            assert run(script, "list", "--admin-token-file", str(tmp_path / "none")) == 2
        assert [shown for _, _, shown in script.asked] == ["Bearer s3cret"] * 2
        assert capsys.readouterr().err == f"{tmp_path}/none: No such file or directory\n"
