"""Text for messages: names on one line, counts with their nouns."""


def escape(name: object) -> str:
    """Return a path, name or message as one line that cannot control a terminal.

    Characters that are not printable become Python's escapes: line breaks, escape sequences, marks
    that change the direction of writing, bytes that are not UTF-8.
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """Return number and noun for a message: `1 video`, `2 videos`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message, or the name of its class."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def is_one_line(name: str) -> bool:
    """Return whether a name holds neither NUL nor any kind of line break."""
    return "\0" not in name and name.splitlines() == [name]


def is_utf8(name: str) -> bool:
    """Return whether a file's name is UTF-8; Python reads other bytes as lone surrogates."""
    return name.encode(errors="ignore").decode() == name
