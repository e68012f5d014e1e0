"""Coming from PraisonAI: its session store as a drop-in, and the way its sessions come over.

from holdfast.integrations.praisonai import DefaultSessionStore

store = DefaultSessionStore("chats.db")
history = store.get_chat_history("user-42")
store.set_chat_history("user-42", [*history, {"role": "user", "content": "Hello"}])
"""

from holdfast.integrations.praisonai.default import get_default_session_store, install
from holdfast.integrations.praisonai.store import (
    DEFAULT_CACHE_MAXSIZE,
    DEFAULT_LOCK_TIMEOUT,
    DEFAULT_MAX_MESSAGES,
    DEFAULT_RETENTION,
    RETENTION_COMPACT,
    RETENTION_KEEP_ALL,
    RETENTION_TRUNCATE,
    DefaultSessionStore,
)
from holdfast.integrations.praisonai.values import (
    CompactionCheckpoint,
    ImportReport,
    SessionData,
    SessionHit,
    SessionMessage,
    SessionSummary,
)

__all__ = [
    "DEFAULT_CACHE_MAXSIZE",
    "DEFAULT_LOCK_TIMEOUT",
    "DEFAULT_MAX_MESSAGES",
    "DEFAULT_RETENTION",
    "RETENTION_COMPACT",
    "RETENTION_KEEP_ALL",
    "RETENTION_TRUNCATE",
    "CompactionCheckpoint",
    "DefaultSessionStore",
    "ImportReport",
    "SessionData",
    "SessionHit",
    "SessionMessage",
    "SessionSummary",
    "get_default_session_store",
    "install",
]
