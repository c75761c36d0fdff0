"""Text for people and files: names on one line, counts with their nouns."""


def escape(name: object) -> str:
    """A path, name or message fit for one line of a terminal.

    What is not printable is escaped as in Python: line breaks, escape sequences, marks that turn
    the direction of writing, bytes that are not UTF-8.
    """
    text = str(name)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def counted(number: int, noun: str) -> str:
    """`1 video`, `2 videos`: number and noun for a message."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def is_one_line(name: str) -> bool:
    """Whether a name holds neither NUL nor a line break of any kind."""
    return "\0" not in name and name.splitlines() == [name]


def is_utf8(name: str) -> bool:
    """Whether a name from the file system was UTF-8 (undecodable bytes arrive as surrogates)."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
