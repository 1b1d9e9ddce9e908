"""`farebox telegram` as its users run it: a process of its own against a Bot API on the loopback."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal

import pytest
from sqlalchemy import Engine

from farebox_ledger.commands.telegram import telegram
from farebox_ledger.credits import Granting, grant_credits
from farebox_ledger.store.credit_accounts import Owner, create_account
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import create_organization
from farebox_ledger.store.writing import book
from farebox_ledger.telegram_bot import fitting
from tests.fakes.bot_api import TOKEN, BotApi, bot_api
from tests.ledger.store.bookings import ACME, EVERYBODY, booking

RUN = "import sys; from farebox_ledger.commands.telegram import telegram; sys.exit(telegram([]))"
NO_LIBRARY = f"import sys; sys.modules['telegram'] = None; {RUN}"
CHATS = "42=acme,-77=acme/ann"


@pytest.fixture
def books(sqlite_engine: Engine) -> Engine:
    """Acme with 10 credits of its own and 1 of Ann's, and one call of each."""
    with transaction(sqlite_engine, EVERYBODY, write=True) as connection:
        create_organization(connection, "acme")
        for owner, amount in ((Owner(), "10"), (Owner(user="ann"), "1")):
            account = create_account(connection, EVERYBODY, ACME, owner)
            grant_credits(connection, account, Granting(amount=Decimal(amount)))
        bookings = [booking(1), booking(2, user="ann")]
        book(connection, EVERYBODY, bookings, collector_id=None, batch_ids=[], writer_slot=1)
    return sqlite_engine


def environment(engine: Engine, **settings: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("FAREBOX_")}
    return kept | {"FAREBOX_DATABASE_URL": engine.url.render_as_string(hide_password=False)} | settings


@contextmanager
def running(engine: Engine, api: BotApi) -> Iterator[subprocess.Popen[str]]:
    settings = {"FAREBOX_TELEGRAM_TOKEN": TOKEN, "FAREBOX_TELEGRAM_CHATS": CHATS, "FAREBOX_TELEGRAM_API": api.address}
    process = subprocess.Popen(
        [sys.executable, "-c", RUN],
        env=environment(engine, **settings),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_l12_l13_the_bot_answers_status_and_credits_to_the_chats_that_it_knows(books: Engine) -> None:
    with bot_api() as api, running(books, api) as bot:
        for chat_id, text in ((42, "/status"), (42, "/credits"), (-77, "/credits"), (5, "/credits")):
            api.say(chat_id, text)
        sent = api.wait_for(4)
        bot.send_signal(signal.SIGTERM)
        output, errors = bot.communicate(timeout=20)

    assert sorted(sent) == sorted(
        [
            (42, sent_to(sent, 42, "acme")),
            (42, "Credits: 9.9955 (USD)\nCredits cannot be bought here yet; ask your administrator."),
            (-77, "Credits of user ann: 0.9955 (USD)\nCredits cannot be bought here yet; ask your administrator."),
            (5, "This chat is not connected; its id is 5."),
        ]
    )
    status = sent_to(sent, 42, "acme").splitlines()
    assert status[:3] == ["acme", "Credits: 9.9955 (USD)", "Credits of user ann: 0.9955 (USD)"]
    assert status[-1].startswith("Health: ")
    assert bot.returncode == 0
    assert TOKEN not in output + errors


def sent_to(sent: list[tuple[int, str]], chat_id: int, beginning: str) -> str:
    return next(text for chat, text in sent if chat == chat_id and text.startswith(beginning))


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("x" * 4096, "x" * 4096),
        ("x" * 4097, "x" * 4095 + "…"),
        ("\N{TRAM}" * 2048, "\N{TRAM}" * 2048),
        ("x" + "\N{TRAM}" * 2048, "x" + "\N{TRAM}" * 2047 + "…"),
        ("\N{TRAM}" * 2049, "\N{TRAM}" * 2047 + "…"),
    ],
    ids=["fits", "too long", "fits in pairs", "cut between pairs", "cut inside a pair"],
)
def test_a_message_is_cut_to_what_telegram_takes(text: str, sent: str) -> None:
    assert fitting(text) == sent


def test_a_wrong_token_stops_the_bot_and_is_not_repeated(books: Engine) -> None:
    with bot_api() as api:
        settings = {
            "FAREBOX_TELEGRAM_TOKEN": "1:wrong",
            "FAREBOX_TELEGRAM_CHATS": CHATS,
            "FAREBOX_TELEGRAM_API": api.address,
        }
        ended = run(environment(books, **settings))

    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == (
        "farebox telegram: FAREBOX_TELEGRAM_TOKEN: the Bot API refuses: InvalidToken"
    )
    assert "1:wrong" not in ended.stderr


def test_without_the_library_the_extra_is_named(books: Engine) -> None:
    ended = run(environment(books), NO_LIBRARY)

    assert ended.returncode == 1
    assert ended.stderr.strip() == (
        'farebox telegram: the bot needs python-telegram-bot: pip install "farebox[telegram]"'
    )


def run(settings: dict[str, str], code: str = RUN) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], env=settings, capture_output=True, text=True, timeout=60, check=False
    )


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "FAREBOX_TELEGRAM_TOKEN: is not set: the bot's token, which @BotFather gives"),
        ({"TOKEN": TOKEN}, "FAREBOX_TELEGRAM_CHATS: is not set: the chats that may ask, such as 12345=acme"),
        (
            {"TOKEN": TOKEN, "CHATS": "acme"},
            "FAREBOX_TELEGRAM_CHATS: 'acme': expected CHAT=ORGANIZATION or CHAT=ORGANIZATION/USER",
        ),
        ({"TOKEN": TOKEN, "CHATS": "1=acme, 1=acme"}, "FAREBOX_TELEGRAM_CHATS: names the chat 1 twice"),
        (
            {"TOKEN": TOKEN, "CHATS": "1=nobody"},
            "organization 'nobody' does not exist; `farebox orgs list` shows which do",
        ),
    ],
    ids=["no token", "no chats", "no chat id", "twice", "unknown organization"],
)
def test_a_wrong_setting_stops_the_start(
    books: Engine,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    settings: dict[str, str],
    said: str,
) -> None:
    monkeypatch.setenv("FAREBOX_DATABASE_URL", books.url.render_as_string(hide_password=False))
    for name in ("TOKEN", "CHATS", "API"):
        monkeypatch.delenv(f"FAREBOX_TELEGRAM_{name}", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(f"FAREBOX_TELEGRAM_{name}", value)

    assert telegram([]) == 1
    assert capsys.readouterr().err.strip() == f"farebox telegram: {said}"
