"""A password in the address of a storage is nowhere to be read: not in a file, a message or a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

import autometa as am
from autometa.cli import main
from autometa.comparison.execution.address import hide_secrets, without_password, without_passwords
from autometa.comparison.execution.patient_storage import insist
from autometa.comparison.execution.storage import open_storage, portable_address
from autometa.comparison.report.repeat import command_text

SECRET = "hunter2secret"
ADDRESSES = [
    f"postgresql://me:{SECRET}@host/db",
    f"postgresql+psycopg://me:{SECRET}@host:5432/db?sslmode=require",
    f"postgresql://me:a/{SECRET}/b@host/db",
    f"postgresql://me:a@{SECRET}@host/db",
    f"postgresql://me:{SECRET}@x@{SECRET}/{SECRET}@host/db",
    f"postgresql://me:a%40{SECRET}%2F@host/db",
    f"postgresql://me:a:{SECRET}?x@host/db",
    f"postgresql://:{SECRET}@host/db",
    f"postgresql://m/e:{SECRET}@host/db",
    f"postgresql://me:{SECRET}@host:port/db",
    f"postgresql://host/db?user=me&password={SECRET}",
    f"postgresql://host/db?sslmode=require&sslpassword={SECRET}&x=1",
    f"mysql+pymysql://me@host/db?passwd={SECRET}",
    f"mssql+pyodbc:///?odbc_connect=DRIVER%3DX%3BUID%3Dme%3BPWD%3D{SECRET}",
    f"sqlite:////no/such/place.db?auth_token={SECRET}",
    f"redis://:{SECRET}@host:6379/0",
    f"no scheme at all://me:{SECRET}@host",
    f"://me:{SECRET}@host",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_secret_of_an_address_is_shown(address: str, tmp_path: Path) -> None:
    shown = without_password(address)
    assert SECRET not in shown
    assert "***" in shown
    assert SECRET not in str(portable_address(address, tmp_path))
    typed = [["--storage", address], [f"--storage={address}"], [f"storage = '{address}'"]]
    for words in typed:
        assert SECRET not in " ".join(without_passwords(words))
        assert SECRET not in command_text(["autometa", "compare", *words])
    assert SECRET not in command_text(f"autometa compare --storage {address} --name x")
    assert SECRET not in hide_secrets(f"cannot reach {address}", address)


@pytest.mark.parametrize(
    "address",
    [
        "runs/journal.log", "sqlite:///C:/Users/me@home/a.db", "sqlite:////home/me@x/s.db?timeout=10", "postgresql://host/db",
        "postgresql://me@host/db?passfile=/home/me/.pgpass&sslkey=/a%20b", "sqlite:///a%20b.db",
    ],
)  # fmt: skip
def test_an_address_without_secrets_stays_as_it_is(address: str) -> None:
    assert without_password(address) == address
    assert without_passwords(["--storage", address]) == ["--storage", address]


def test_what_is_no_secret_is_still_told() -> None:
    shown = without_password(f"postgresql://me:{SECRET}@host:5432/db?sslmode=require&password={SECRET}")
    assert shown == "postgresql://me:***@host:5432/db?sslmode=require&password=***"


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_error_shows_a_secret_nor_does_its_traceback(
    address: str,
) -> None:
    def told(call: object) -> str:
        with pytest.raises(am.StorageError) as found:
            call()  # type: ignore[operator]
        lines = traceback.format_exception(found.value)
        return "".join(line for line in lines if SECRET in line and "address" not in line) + str(found.value)

    assert SECRET not in told(lambda: open_storage(address))


def test_no_command_shows_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for address in (f"postgresql://me:p@{SECRET}@host/db", f"no+driver://me:{SECRET}@host/db"):
        with pytest.raises(am.StorageError) as found:
            am.compare("sinusoid", "ridge", storage=address, n_trials=1, verbose=0)
        assert SECRET not in str(found.value)
        out = str(tmp_path / "out")
        typed = ["compare", "--tasks", "sinusoid", "--learners", "ridge", "--storage", address, "--output", out]
        assert main(typed) == 1
        assert main(["worker", "--storage", address, "--name", "x"]) == 1
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err


def test_an_at_sign_that_makes_an_address_unclear_is_explained() -> None:
    with pytest.raises(am.StorageError, match=r"'postgresql://me:\*\*\*@host/db' cannot be read .* write %40 for '@'"):
        open_storage("postgresql://me:p@ss@host/db")


@pytest.mark.thorough
@pytest.mark.reports
@pytest.mark.filterwarnings("ignore:Query string argument")  # SQLite has no passwords
def test_a_comparison_with_a_secret_writes_and_says_it_nowhere(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, database = tmp_path / "out", tmp_path / "studies.db"
    address = f"sqlite:///{database}?password={SECRET}"
    typed = ["compare", "--tasks", "sinusoid", "--learners", "ridge,sklearn", "--storage", address]
    typed += ["--trials", "1", "--steps", "2", "--tasks-per-step", "2", "--seeds", "1", "--n-test-tasks", "6"]
    typed += ["--valid-tasks", "3", "--output", str(out), "--name", "n"]
    monkeypatch.setattr("sys.argv", ["autometa", *typed])
    assert main(typed) == 0
    assert main([*typed, "--random-state", "5"]) == 2  # another comparison: the error names the storage
    assert main(["worker", "--storage", address, "--name", "n"]) == 0
    assert main(["worker", "--storage", address, "--name", "other"]) == 2
    loaded = am.Comparison.load(out, storage=address)
    loaded.report(tmp_path / "again.html")
    said = capsys.readouterr()
    assert SECRET not in said.out + said.err
    assert "password=***" in said.err
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"run.json", "report.html", "again.html", "studies.db"} <= {path.name for path in files}
    for path in files:
        assert SECRET.encode() not in path.read_bytes(), path
    assert "password=***" in (out / "report.html").read_text(encoding="utf-8")


def test_a_storage_that_is_asked_again_is_named_without_its_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("autometa.comparison.execution.patient_storage.PATIENCE", 0.0)

    def away() -> None:
        raise ConnectionError("gone")

    with pytest.raises(am.StorageError) as found:
        insist(away, without_password(ADDRESSES[0]), lambda error: True)
    assert SECRET not in str(found.value)
