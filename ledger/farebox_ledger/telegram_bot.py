"""The Telegram bot: answers /status and /credits to the chats that it knows, each for its organization or user.

Updates come in by long polling, one message goes out for each command. It changes nothing in the books. Needs the extra
`telegram`; nobody imports this module without it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from sqlalchemy import Engine
from telegram import Update
from telegram.ext import Application, CommandHandler, ContextTypes

from farebox_ledger.credits import balance_of, purchase_hook
from farebox_ledger.errors import NotFound
from farebox_ledger.status import MAX_ACCOUNTS, status_of
from farebox_ledger.status_text import credits_text, status_text
from farebox_ledger.store.credit_accounts import Owner, list_accounts
from farebox_ledger.store.engine import transaction
from farebox_ledger.store.organizations import organization_by_slug
from farebox_ledger.store.scope import AllOrganizations, OrgScope
from farebox_ledger.usage import org_id_of

logger = logging.getLogger(__name__)

MESSAGE_UNITS: Final = 4096
"""The longest message (core.telegram.org/bots/api, sendMessage); a longer one would be refused whole."""

_COMMANDS: Final = "/status: balance, this month and projects\n/credits: balance, and where to buy more"
_EVERYBODY: Final = AllOrganizations()

Bot: TypeAlias = Application[Any, Any, Any, Any, Any, Any]
Answer: TypeAlias = Callable[[Engine, "Chat"], str]


class Chat(NamedTuple):
    """What a chat may ask about: an organization or, where a user is named, that user alone."""

    organization: str
    user: str | None = None


def make_bot(engine: Engine, token: str, chats: Mapping[int, Chat], *, api: str | None = None) -> Bot:
    """Make the bot; `api` is the address of the Bot API in front of the token, None for Telegram's own."""
    builder = Application.builder().token(token)
    if api is not None:
        builder = builder.base_url(api)
    bot = builder.build()
    for name, answer in (("status", answer_status), ("credits", answer_credits), ("start", _help), ("help", _help)):
        bot.add_handler(CommandHandler(name, _handler(engine, chats, answer)))
    bot.add_error_handler(_log_fault)
    return bot


def answer_status(engine: Engine, chat: Chat) -> str:
    """Say how the chat's organization or user stands."""
    scope = OrgScope(org_id_of(chat.organization))
    with transaction(engine, scope) as connection:
        organization = organization_by_slug(connection, chat.organization)
        if organization is None:
            raise NotFound("organization", chat.organization)
        return status_text(status_of(connection, scope, organization, user=chat.user))


def answer_credits(engine: Engine, chat: Chat) -> str:
    """Say what the chat's organization or user has, and where there is more."""
    org_id = org_id_of(chat.organization)
    scope = OrgScope(org_id)
    owner = Owner() if chat.user is None else Owner(user=chat.user)
    with transaction(engine, scope) as connection:
        accounts = list_accounts(connection, scope, org_id, limit=MAX_ACCOUNTS, owner=owner)
        balances = [balance_of(connection, one) for one in accounts]
    if not accounts:
        return "Credits: no account"
    return credits_text(balances, purchase_hook().checkout(accounts[0]))


def fitting(text: str) -> str:
    """Cut a text to what one message holds; Telegram counts UTF-16 units."""
    units = text.encode("utf-16-le")
    if len(units) <= 2 * MESSAGE_UNITS:
        return text
    return units[: 2 * MESSAGE_UNITS - 2].decode("utf-16-le", "ignore") + "…"


def _help(engine: Engine, chat: Chat) -> str:
    return f"{chat.organization} on farebox\n{_COMMANDS}"


def _handler(engine: Engine, chats: Mapping[int, Chat], answer: Answer) -> Any:
    async def handle(update: Update, _: ContextTypes.DEFAULT_TYPE) -> None:
        if update.effective_chat is None or update.effective_message is None:
            return
        chat = chats.get(update.effective_chat.id)
        if chat is None:
            said = f"This chat is not connected; its id is {update.effective_chat.id}."
        else:
            said = await asyncio.to_thread(_answered, answer, engine, chat)
        await update.effective_message.reply_text(fitting(said))

    return handle


def _answered(answer: Answer, engine: Engine, chat: Chat) -> str:
    """Answer a command; a fault costs this answer and not the bot."""
    try:
        return answer(engine, chat)
    except Exception:
        logger.exception("a command of the chat of %s could not be answered", chat.organization)
        return "This cannot be answered now; try again later."


async def _log_fault(_: object, context: ContextTypes.DEFAULT_TYPE) -> None:
    """Note what went wrong between Telegram and here; the library goes on by itself."""
    logger.warning("telegram: %s", type(context.error).__name__)
