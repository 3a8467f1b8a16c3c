"""Personal data of people who do not exist: valid in form and checksum, so detectors have real work."""

from __future__ import annotations

import random
from importlib import resources
from pathlib import Path

MAIL_DOMAINS = ("mailbox.org", "posteo.net", "webmail.io", "inbox.eu", "fastpost.com")
DIGITS = "0123456789"


def names_path() -> Path:
    """File of the demo's own first names, one a line (``PrivacyConfig.names_file``)."""
    return Path(str(resources.files("flywheel.demo") / "data" / "names.txt"))


NAMES: tuple[str, ...] = tuple(names_path().read_text().split())


def name(rng: random.Random) -> str:
    """A first name from the demo's list."""
    return rng.choice(NAMES)


def email(rng: random.Random) -> str:
    """An e-mail address, often made from a name."""
    local = rng.choice(NAMES).lower()
    suffix = rng.choice([f".{rng.choice('abcdefghjkm')}", str(rng.randrange(10, 99)), ""])
    return f"{local}{suffix}@{rng.choice(MAIL_DOMAINS)}"


def phone(rng: random.Random) -> str:
    """A telephone number that ``phonenumbers`` calls valid (US, GB or DE)."""
    shape = rng.randrange(4)
    if shape == 0:
        return f"({rng.choice(['212', '415', '617'])}) {rng.randrange(220, 550)}-{_digits(rng, 4)}"
    if shape == 1:
        return f"+1 {rng.choice(['212', '415', '617'])} {rng.randrange(220, 550)} {_digits(rng, 4)}"
    if shape == 2:
        return f"+44 20 7{_digits(rng, 3)} {_digits(rng, 4)}"
    return f"+49 30 {rng.randrange(20, 90)}{_digits(rng, 6)}"


def card(rng: random.Random) -> str:
    """A 16-digit card number with a valid Luhn digit, grouped by four."""
    body = rng.choice(["4532", "4716", "5312", "5218"]) + _digits(rng, 11)
    number = body + _luhn(body)
    return " ".join(number[i : i + 4] for i in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    """A German IBAN with valid check digits (ISO 7064 mod 97-10)."""
    bban = rng.choice(["37040044", "50010517", "10010010"]) + _digits(rng, 10)
    check = 98 - int(bban + "131400") % 97  # D = 13, E = 14, check digits 00
    number = f"DE{check:02d}{bban}"
    return " ".join(number[i : i + 4] for i in range(0, len(number), 4))


def ip(rng: random.Random) -> str:
    """A public IPv4 address."""
    return f"{rng.choice([81, 84, 91, 93])}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}.{rng.randrange(1, 255)}"


def order(rng: random.Random) -> str:
    """An order number, which is no personal data and stays."""
    return rng.choice([f"#{rng.randrange(10_000, 99_999)}", f"A-{rng.randrange(1_000, 9_999)}"])


FILLERS = {"name": name, "email": email, "phone": phone, "card": card, "iban": iban, "ip": ip, "order": order}


def _digits(rng: random.Random, count: int) -> str:
    return "".join(rng.choice(DIGITS) for _ in range(count))


def _luhn(body: str) -> str:
    total = 0
    for i, digit in enumerate(reversed(body)):
        value = int(digit) * (2 if i % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return str(-total % 10)
