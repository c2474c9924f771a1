"""Matches blob names against globs, and decides whether one glob matches all that another does.

A glob becomes a small automaton. Matching takes time linear in the name, whatever the pattern, and inclusion
is exact, so that a route that can never be reached is found when the configuration loads.

`?` is one character but "/", `*` any number of them, `**/` any number of folders, `**` anything at all (but not
nothing). Every other character stands for itself; names are compared as they are written, case included.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Final, Literal

__all__ = ["MAX_GLOB_LENGTH", "Glob"]

MAX_GLOB_LENGTH: Final = 256

_ANY: Final = "any"
_ANY_BUT_SLASH: Final = "any but slash"
_Kind = Literal["any", "any but slash", "literal"]


@dataclass(frozen=True, slots=True)
class _Step:
    """An edge of the automaton: reads one character that it accepts."""

    kind: _Kind
    character: str
    target: int

    def accepts(self, character: str) -> bool:
        if self.kind == "literal":
            return character == self.character
        return self.kind == "any" or character != "/"


@dataclass(frozen=True, slots=True)
class Glob:
    """All names that begin with `prefix`, go on as `pattern` says, and end with `suffix`."""

    prefix: str
    pattern: str
    suffix: str = ""

    def matches(self, name: str) -> bool:
        """Return whether the whole name is meant."""
        if not name.startswith(self.prefix) or not name.endswith(self.suffix):
            return False
        return _compile("", self.pattern).accepts(name[len(self.prefix) :])

    def includes(self, other: "Glob") -> bool:
        """Return whether this glob matches every name that the other matches."""
        example = _example_of(other)
        if example is None or not self.matches(example):  # most pairs are told apart by any one name
            return example is None
        alphabet = _alphabet(self, other)
        theirs, ours = other.automata(), self.automata()
        first = (_closures(theirs), _closures(ours))
        seen = {first}
        to_visit = [first]
        while to_visit:
            their_states, our_states = to_visit.pop()
            if _accept(theirs, their_states) and not _accept(ours, our_states):
                return False
            for character in alphabet:
                following = (_after(theirs, their_states, character), _after(ours, our_states, character))
                if all(following[0]) and following not in seen:  # where the other is dead, nothing is left to include
                    seen.add(following)
                    to_visit.append(following)
        return True

    @property
    def characters(self) -> str:
        """Every character that the glob mentions."""
        return self.prefix + self.pattern + self.suffix

    def automata(self) -> tuple["_Automaton", "_Automaton"]:
        """Return what a name must satisfy, both at once: prefix with pattern, and anything with suffix."""
        return _compile(self.prefix, self.pattern), _compile_suffix(self.suffix)


type _States = tuple[frozenset[int], ...]


def _alphabet(*globs: Glob) -> list[str]:
    """Return the characters that make a difference to the globs, and one that stands for all the others."""
    mentioned = {"/", *(character for glob in globs for character in glob.characters)}
    return [next(chr(code) for code in count(1) if chr(code) not in mentioned), *sorted(mentioned)]


@lru_cache(maxsize=1024)
def _example_of(glob: Glob) -> str | None:
    """Return one of the shortest names that are meant, or None if none is: no name ends as the suffix says."""
    automata, alphabet = glob.automata(), _alphabet(glob)
    to_visit = deque([(_closures(automata), "")])
    seen = {_closures(automata)}
    while to_visit:
        states, name = to_visit.popleft()
        if _accept(automata, states):
            return name
        for character in alphabet:
            following = _after(automata, states, character)
            if all(following) and following not in seen:
                seen.add(following)
                to_visit.append((following, name + character))
    return None


def _closures(automata: tuple["_Automaton", ...]) -> _States:
    return tuple(automaton.closure({0}) for automaton in automata)


def _after(automata: tuple["_Automaton", ...], states: _States, character: str) -> _States:
    return tuple(automaton.after(at, character) for automaton, at in zip(automata, states, strict=True))


def _accept(automata: tuple["_Automaton", ...], states: _States) -> bool:
    return all(automaton.final in at for automaton, at in zip(automata, states, strict=True))


class _Automaton:
    """States 0 to `final`, edges that read a character, and edges that read nothing."""

    def __init__(self) -> None:
        self.final = 0
        self.steps: dict[int, list[_Step]] = {}
        self.free: dict[int, list[int]] = {}

    def read(self, kind: _Kind, character: str = "") -> None:
        """Append a state that is reached by reading one character."""
        self.steps.setdefault(self.final, []).append(_Step(kind, character, self.final + 1))
        self.final += 1

    def repeat(self, kind: _Kind) -> None:
        """Let the last state read any number of characters of a kind and stay."""
        self.steps.setdefault(self.final, []).append(_Step(kind, "", self.final))

    def skip(self, start: int) -> None:
        """Let `start` reach the last state by reading nothing."""
        self.free.setdefault(start, []).append(self.final)

    def closure(self, states: Iterable[int]) -> frozenset[int]:
        found = set(states)
        to_visit = list(found)
        while to_visit:
            for target in self.free.get(to_visit.pop(), ()):
                if target not in found:
                    found.add(target)
                    to_visit.append(target)
        return frozenset(found)

    def after(self, states: frozenset[int], character: str) -> frozenset[int]:
        return self.closure(
            step.target for state in states for step in self.steps.get(state, ()) if step.accepts(character)
        )

    def accepts(self, text: str) -> bool:
        states = self.closure({0})
        for character in text:
            states = self.after(states, character)
            if not states:
                return False
        return self.final in states


@lru_cache(maxsize=1024)
def _compile(prefix: str, pattern: str) -> _Automaton:
    automaton = _Automaton()
    for character in prefix:
        automaton.read("literal", character)
    at = 0
    while at < len(pattern):
        if pattern.startswith("**/", at):
            start = automaton.final
            automaton.read(_ANY)
            automaton.repeat(_ANY)
            automaton.read("literal", "/")
            automaton.skip(start)
            at += 3
        elif pattern.startswith("**", at):
            automaton.read(_ANY)
            automaton.repeat(_ANY)
            at += 2
        elif pattern[at] == "*":
            start = automaton.final
            automaton.read(_ANY_BUT_SLASH)  # a state of its own, so that what follows cannot loop back into it
            automaton.repeat(_ANY_BUT_SLASH)
            automaton.skip(start)
            at += 1
        else:
            automaton.read(*((_ANY_BUT_SLASH, "") if pattern[at] == "?" else ("literal", pattern[at])))
            at += 1
    return automaton


@lru_cache(maxsize=1024)
def _compile_suffix(suffix: str) -> _Automaton:
    automaton = _Automaton()
    automaton.repeat(_ANY)
    for character in suffix:
        automaton.read("literal", character)
    return automaton
