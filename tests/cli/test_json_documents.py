"""`--json`: one document or an error object, as docs/json.md says.

`OBSDIMG_REGENERATE=1 ./test tests/cli/test_json_documents.py` writes the page's reference and the
schema anew.  What the commands print is held against the types in every test (tests/conftest.py).
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import get_args

import pytest
from pydantic import ValidationError

from obsdimg.cli import main as cli
from obsdimg.cli.commands import COMMANDS
from obsdimg.cli.options import specs
from obsdimg.cli.unlock import EXIT_CODES
from obsdimg.console.screen import Kind
from obsdimg.console.states import Sight
from obsdimg.console.unlock import Outcome
from support import documents
from support.documents.servers import ConsoleDocument, Shows, UnlockDocument

TOP = Path(__file__).parents[2]
PAGE, SCHEMA = TOP / "docs/json.md", TOP / "docs/json.schema.json"


def test_the_page_and_the_schema_are_those_of_the_types() -> None:
    schema = json.dumps(documents.schema(), indent=1) + "\n"
    head, mark, rest = PAGE.read_text().partition("## Reference\n")
    if os.environ.get("OBSDIMG_REGENERATE"):
        PAGE.write_text(f"{head}{mark}\n{documents.reference()}")
        SCHEMA.write_text(schema)
        return
    assert rest.strip() == documents.reference().strip()
    assert SCHEMA.read_text() == schema


def takes_json(command: str) -> bool:
    module = __import__(f"obsdimg.cli.{command}", fromlist=["Options"])
    return any("--json" in spec.words for _, spec in specs(module.Options))


def test_what_a_monitor_compares_with_is_what_there_is() -> None:
    """`shows` and `result` of console and unlock: every value that the code knows, no other."""
    assert get_args(Shows) == tuple(sight.value for sight in Sight)
    kinds = ConsoleDocument.model_fields["kind"].annotation
    assert set(get_args(kinds)) == {kind.value for kind in Kind}
    results = UnlockDocument.model_fields["result"].annotation
    assert set(get_args(results)) == {*(end.value for end in Outcome), *EXIT_CODES}


def test_every_command_that_takes_it_is_described() -> None:
    assert {c for c in COMMANDS if takes_json(c)} == set(documents.DOCUMENTS)


WORDS = {
    "verify": ["--key", "6.6-base", "none.sig"],
    "fetch": ["-c", "none.toml"],
    "release": ["learn"],
    "client": ["show", "x", "-c", "none.toml"],
    "restore": ["none.age"],
    "console": ["--text", "-c", "none.toml"],
    "inspect": ["none.iso"],
    "rehearse": ["none.iso"],
    "smoke": ["none.iso"],
}


@pytest.mark.parametrize("command", documents.DOCUMENTS)
def test_an_error_is_an_object(
    command: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    code = cli.main([command, *WORDS.get(command, ["-c", "none.toml"]), "--json"])
    said = capsys.readouterr()
    document = json.loads(said.out)
    assert set(document) == {"error"}
    assert document["error"]["exit_code"] == code != 0
    assert f"error: {document['error']['message']}" in said.err
    documents.validate(command, said.out)


def test_wrong_usage_is_an_object_too(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["check", "--json", "--fly"],
        ["fly", "--json"],
        ["smoke", "--json", "--board=x"],
    ):
        with pytest.raises(SystemExit) as ended:
            cli.main(words)
        assert ended.value.code == 2
        document = json.loads(capsys.readouterr().out)
        assert document["error"]["exit_code"] == 2


def test_what_is_printed_is_as_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init", "-q"]) == 0
    for words in (["check"], ["client"], ["release"], ["deploy", "status"]):
        capsys.readouterr()
        assert cli.main([*words, "--json"]) == 0, words
        documents.validate(words[0], capsys.readouterr().out)


def test_a_document_with_another_field_is_none() -> None:
    with pytest.raises(ValidationError):
        documents.validate("restore", '{"holds": [], "more": 1}')


def test_ctrl_c_is_an_object(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from obsdimg.cli import check

    def interrupted(*_: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(check, "run", interrupted)
    assert cli.main(["check", "--json"]) == 130
    assert json.loads(capsys.readouterr().out)["error"]["exit_code"] == 130
