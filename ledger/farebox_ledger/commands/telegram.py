"""`farebox telegram`: the bot that answers /status and /credits, until told to stop.

The environment is read here: token, allowed chats, and the address of the Bot API.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from farebox_ledger.commands.opening import guarded, opened_database
from farebox_ledger.errors import InvalidInput, LedgerError, NotFound
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.scope import AllOrganizations

if TYPE_CHECKING:
    from farebox_ledger.telegram_bot import Bot, Chat

TOKEN: Final = "FAREBOX_TELEGRAM_TOKEN"
CHATS: Final = "FAREBOX_TELEGRAM_CHATS"
API: Final = "FAREBOX_TELEGRAM_API"

_DESCRIPTION = f"""\
Answer /status and /credits on Telegram. {TOKEN} is the bot's token; {CHATS} lists the chats that it answers, such as
12345=acme,-100678=zenith/ann (chat id = organization, or one user of it); {API} is another Bot API server."""

_CHAT: Final = re.compile(r"(-?\d{1,19})=([a-z0-9._-]{1,64})(?:/(.{1,400}))?")


class ExtraMissing(LedgerError):
    """The library for the bot is not installed."""


def telegram(arguments: Sequence[str]) -> int:
    """Answer /status and /credits on Telegram.

    The exit code: 0 after a clean end, 1 when it cannot start, 2 wrong use.
    """
    parser = argparse.ArgumentParser("farebox telegram", description=_DESCRIPTION)
    parser.parse_args(arguments)
    return guarded("farebox telegram", _telegram)


def _telegram() -> None:
    try:
        from farebox_ledger.telegram_bot import make_bot
    except ImportError as error:
        if not (error.name or "").startswith("telegram"):
            raise
        raise ExtraMissing('the bot needs python-telegram-bot: pip install "farebox[telegram]"') from None
    token, chats = _token(), _chats(os.environ.get(CHATS, ""))
    _silence()
    with opened_database() as engine:
        with transaction(engine, AllOrganizations()) as connection:
            for chat in chats.values():
                if organization_by_slug(connection, chat.organization) is None:
                    raise NotFound("organization", chat.organization)
        bot = make_bot(engine, token, chats, api=os.environ.get(API) or None)
        print(f"answering {len(chats)} chats; end with Ctrl-C", flush=True)
        _run(bot)


def _silence() -> None:
    """Keep the token out of logs: it is part of every address, and of what the library says of a refused one."""
    logging.getLogger("httpx").setLevel(logging.WARNING)
    logging.getLogger("telegram").setLevel(logging.CRITICAL)  # the bot itself says by name what went wrong


def _run(bot: Bot) -> None:
    from telegram.error import TelegramError

    try:
        bot.run_polling(allowed_updates=["message"])
    except TelegramError as error:
        raise InvalidInput(TOKEN, f"the Bot API refuses: {type(error).__name__}") from None


def _token() -> str:
    token = os.environ.get(TOKEN, "")
    if not token:
        raise InvalidInput(TOKEN, "is not set: the bot's token, which @BotFather gives")
    return token


def _chats(text: str) -> Mapping[int, Chat]:
    from farebox_ledger.telegram_bot import Chat

    chats: dict[int, Chat] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        match = _CHAT.fullmatch(part)
        if match is None:
            raise InvalidInput(CHATS, f"{part[:64]!r}: expected CHAT=ORGANIZATION or CHAT=ORGANIZATION/USER")
        if int(match[1]) in chats:
            raise InvalidInput(CHATS, f"names the chat {match[1]} twice")
        chats[int(match[1])] = Chat(match[2], match[3])
    if not chats:
        raise InvalidInput(CHATS, "is not set: the chats that may ask, such as 12345=acme")
    return chats
