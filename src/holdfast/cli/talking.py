"""A conversation with a model in the terminal: its answers, and the commands between them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from holdfast.cli.escaping import json_text, visible, visible_body
from holdfast.cli.options import Settings, point
from holdfast.cli.printing import plural, print_line, print_rich, say
from holdfast.cli.program import DONE, FAILED, INTERRUPTED, hint_for
from holdfast.errors import HoldfastError, InvalidArgument, SessionNotFound

if TYPE_CHECKING:
    from holdfast.agents.agent import Agent
    from holdfast.agents.reply import Reply
    from holdfast.model.message import Message
    from holdfast.store.sync_store import SessionStore

_LAST = 6
"""So many messages of an older conversation are shown when it goes on."""

_NAME = "chat"


class _Unheard(Exception):
    """Standard output takes nothing more, which is no failure of whoever answers."""

    def __init__(self, error: OSError) -> None:
        super().__init__(str(error))
        self.error = error


class Talk:
    """One conversation, and the commands that change which one it is."""

    def __init__(
        self,
        store: SessionStore,
        model: Mapping[str, str | None],
        session_id: str | None,
        settings: Settings,
    ) -> None:
        self._store = store
        self._model = model
        self._as_json = settings.as_json
        self._place = settings.place
        self._agent = self._agent_for(session_id)

    def _agent_for(self, session_id: str | None) -> Agent:
        from uuid import uuid4

        from holdfast.agents.agent import Agent

        return Agent(
            _NAME,
            self._model["system"],
            self._model["model"],
            session=session_id or f"chat_{uuid4().hex[:12]}",
            store=self._store,
            base_url=self._model["base_url"],
        )

    # Answers

    def answer(self, prompt: str) -> int:
        """Show an answer as it comes; the exit code of a command that wanted only this one."""
        if not self._as_json:
            self._say_who_is_first()
        reply = self._agent.start(prompt, stream=True)
        try:
            if self._as_json:
                reply.wait()
            else:
                _show(reply)
        except KeyboardInterrupt:
            reply.interrupt()
            reply.wait()
        except HoldfastError as error:
            return self._refused(error)
        except _Unheard as unheard:
            reply.wait()  # kept whole, as every reply that nobody reads
            raise unheard.error from None
        except Exception as error:  # noqa: BLE001 - whatever a model's client raises ends no chat
            return self._model_failed(error)
        return self._told(reply)

    def _say_who_is_first(self) -> None:
        """Say whose turn this waits for, and how long at most if that worker is no more."""
        from holdfast.store.leases import lease_of

        held = lease_of(self._store, self._agent.session_id)
        if held is not None and held.holds:
            say(
                f"(this waits for the turn that {visible(held.worker)} runs; if that died, for "
                f"{plural(math.ceil(held.left_s), 'second')})"
            )

    def _told(self, reply: Reply) -> int:
        try:
            stopped = reply.interrupted
        except HoldfastError as error:
            return self._refused(error)
        except Exception as error:  # noqa: BLE001 - as above
            return self._model_failed(error)
        if self._as_json:
            print_line(json_text(_facts(reply), indent=None))
        elif stopped:
            unasked = reply.turn is None  # its turn had not come
            say(
                "(stopped waiting; nothing was asked)"
                if unasked
                else "(interrupted; what was said is kept)"
            )
        return INTERRUPTED if stopped else DONE

    def _refused(self, error: HoldfastError) -> int:
        return self._failed(error.message, error.code, hint_for(error, self._place))

    def _model_failed(self, error: Exception) -> int:
        hint = "; ".join(getattr(error, "__notes__", ()))  # such as where it was asked
        return self._failed(f"{type(error).__name__}: {error}", "model", hint)

    def _failed(self, message: str, code: str, hint: str) -> int:
        """Say why there is no answer; what was said of it is kept."""
        if self._as_json:
            error = {"code": code, "message": message, "hint": hint}
            click.echo(json_text({"error": error}, indent=None), err=True)
        else:
            say(
                f"Error: {visible_body(message)}"
                + (f"\nHint:  {visible_body(hint)}" if hint else "")
            )
        return FAILED

    def name_session(self) -> None:
        """Name the session of an only answer, whose id was made up, so that it can go on."""
        if not self._as_json and self._store.session_exists(self._agent.session_id):
            name = visible(self._agent.session_id)
            say(f"(this is session {name} in {self._place}; name it to go on)")

    # Commands

    def greet(self) -> None:
        """Say which conversation this is, and show its end if it is not new."""
        name = visible(self._agent.session_id)
        messages = self._messages(_LAST)
        if self._as_json:
            return
        if messages:
            _print(messages)
            say(f"Session {name} in {self._place} goes on. /help shows the commands.")
        else:
            say(f"Session {name} in {self._place} is new. /help shows the commands.")

    def obey(self, line: str) -> bool:
        """Do what a line with a slash says; false if the chat is to end."""
        name, _, rest = line[1:].partition(" ")
        if name in ("quit", "exit"):
            return False
        command = _COMMANDS.get(name)
        if command is None:
            say(f"There is no /{visible(name)}. /help shows the commands.")
            return True
        try:
            command[1](self, rest.strip())
        except SessionNotFound as error:
            if name == "resume":
                self._refused(error)
            else:
                say("There is nothing in this conversation yet.")
        except HoldfastError as error:
            self._refused(error)
        except click.BadParameter as error:
            say(f"Error: {visible_body(error.message)}")
        return True

    def help(self, _: str) -> None:
        """Show this."""
        for name, (words, function) in _COMMANDS.items():
            about = (function.__doc__ or "").rstrip(".")
            say(f"  /{name} {words}".ljust(17) + about)
        say("  /quit".ljust(17) + "End, as Ctrl-D does")

    def history(self, _: str) -> None:
        """Show the whole conversation."""
        _print(self._messages(None))

    def new(self, session_id: str) -> None:
        """Begin another conversation."""
        self._agent = self._agent_for(session_id or None)
        self.greet()

    def resume(self, session_id: str) -> None:
        """Go on with another conversation; without ID, list them."""
        if session_id:
            self._store.get_session(session_id)
            self._agent = self._agent_for(session_id)
            self.greet()
            return
        for info in self._store.list_sessions(20):
            title = f"  {visible(info.title)}" if info.title else ""
            say(f"  {visible(info.id)}  {plural(info.message_count, 'message')}{title}")

    def usage(self, _: str) -> None:
        """Show the tokens that this conversation took."""
        try:
            usage = self._store.stats(self._agent.session_id).usage
        except SessionNotFound:
            say("Nothing was used yet.")
            return
        unknown = f", {plural(usage.unknown, 'call')} did not tell" if usage.unknown else ""
        say(
            f"{usage.input_tokens:,} tokens in, {usage.output_tokens:,} out, "
            f"{plural(usage.requests, 'call')}{unknown}."
        )

    def fork(self, new_id: str) -> None:
        """Go on in a copy of this conversation."""
        info = self._store.fork_session(self._agent.session_id, new_id or None)
        self._agent = self._agent_for(info.id)
        say(f"Session {visible(info.id)} is a copy, and goes on.")

    def rewind(self, to: str) -> None:
        """Take back the last turn, or what came after a point."""
        place = point(to) if to else -1
        if isinstance(place, int) and place == 0:
            raise InvalidArgument("0 turns back is now", hint="say /rewind -1, or a label")
        commit = self._store.rewind_session(self._agent.session_id, place)
        say(f"{plural(commit.removed, 'message')} left the conversation, and can still be read.")

    def _messages(self, limit: int | None) -> list[Message]:
        return self._store.get_messages(self._agent.session_id, limit)


_COMMANDS: dict[str, tuple[str, Callable[[Talk, str], None]]] = {
    "help": ("", Talk.help),
    "history": ("", Talk.history),
    "new": ("[ID]", Talk.new),
    "resume": ("[ID]", Talk.resume),
    "usage": ("", Talk.usage),
    "fork": ("[ID]", Talk.fork),
    "rewind": ("[TO]", Talk.rewind),
}


def _show(reply: Reply) -> None:
    """Print an answer as it comes, harmless for the terminal."""
    begun = False
    try:
        for piece in reply:
            _write(visible_body(piece))
            begun = True
    finally:
        if begun:
            _write("\n")


def _write(text: str) -> None:
    try:
        sys.stdout.write(text)
        sys.stdout.flush()
    except OSError as error:
        raise _Unheard(error) from error


def _print(messages: list[Message]) -> None:
    from holdfast.cli.conversation import message_lines

    for message in messages:
        print_rich(*message_lines(message, full=False), "")


def _facts(reply: Reply) -> dict[str, Any]:
    usage = reply.usage
    return {
        "session": reply.session_id,
        "turn": reply.turn,
        "text": reply.text,
        "status": "interrupted"
        if reply.interrupted
        else "waiting"
        if reply.waiting
        else "completed",
        "usage": {"input_tokens": usage.input_tokens, "output_tokens": usage.output_tokens},
    }
