import pytest
import typer
from typer.testing import CliRunner

from trainable.console import INTERRUPTED, UNDERSCORES_ARE_DASHES, run_app
from trainable.errors import UsageError, UserError


def app_that(body) -> typer.Typer:
    """An app with one command, which has one option and runs `body`."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

    @app.command(context_settings=UNDERSCORES_ARE_DASHES)
    def main(learning_rate: float = 1.0) -> object:
        return body(learning_rate)

    return app


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture):
    """Runs an app with arguments; gives its exit code, what it printed and what it said on stderr."""

    def run_with(body, *arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr("sys.argv", ["command", *arguments])
        with pytest.raises(SystemExit) as left:
            run_app(app_that(body))
        out, err = capsys.readouterr()
        return left.value.code, out, err

    return run_with


def raiser(error: BaseException):
    def body(_: float) -> None:
        raise error

    return body


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (3, 3), ("text", 0)])
def test_what_a_command_returns_is_its_exit_code(run, returned: object, code: int) -> None:
    assert run(lambda _: returned) == (code, "", "")


@pytest.mark.parametrize(("error_type", "code"), [(UserError, 1), (UsageError, 2)])
def test_a_users_mistake_is_one_line_on_stderr(run, error_type, code: int) -> None:
    assert run(raiser(error_type("photos: no such folder"))) == (code, "", "error: photos: no such folder\n")


def test_a_message_of_several_lines_becomes_one(run) -> None:
    _, _, err = run(raiser(UserError("first:\n  second\n\n third")))
    assert err == "error: first: second third\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--learning-rat", "1"], "No such option: --learning-rat"),
        (["--learning-rate", "fast"], "Invalid value for '--learning-rate'"),
        (["--learning-rate"], "requires an argument"),
        (["extra"], "unexpected extra argument"),
    ],
)
def test_an_option_that_cannot_be_meant_exits_with_2_and_one_line(run, arguments: list[str], message: str) -> None:
    code, out, err = run(lambda _: None, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")
    assert message in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("spelling", ["--learning-rate", "--learning_rate"])
def test_options_may_be_spelt_with_underscores(run, spelling: str) -> None:
    seen: list[float] = []
    assert run(seen.append, spelling, "0.5")[0] == 0
    assert seen == [0.5]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), typer.Abort()])
def test_ctrl_c_exits_with_130_without_a_traceback(run, error: BaseException) -> None:
    code, out, err = run(raiser(error))
    assert (code, out) == (INTERRUPTED, "")
    assert err.strip() in ("", "interrupted")


def test_an_exit_keeps_its_code(run) -> None:
    assert run(raiser(typer.Exit(4))) == (4, "", "")


def test_an_error_of_the_program_itself_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["command"])
    with pytest.raises(ZeroDivisionError, match="division by zero"):
        run_app(app_that(lambda _: 1 / 0))


def test_help_shows_the_option_with_dashes() -> None:
    result = CliRunner().invoke(app_that(lambda _: None), ["--help"], env={"NO_COLOR": "1", "TERM": "dumb"})
    assert result.exit_code == 0
    assert "--learning-rate" in result.output


def test_control_characters_in_an_error_are_shown_and_not_obeyed(run) -> None:
    _, _, err = run(raiser(UserError("train/\x1b[2Jcat\a: no images; \u202eadd some")))
    assert err == "error: train/\\x1b[2Jcat\\x07: no images; \\u202eadd some\n"
