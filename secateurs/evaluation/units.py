"""Counts, sizes and times for people to read."""


def count(number: float) -> str:
    """A number of parameters or multiply-adds: 1.24 B, 113 M, 48.2 k, 720."""
    return _scaled(number, ("", " k", " M", " B", " T"))


def size(number: float) -> str:
    """Bytes, in powers of a thousand as disks and memory are sold: 452 MB, 1.20 GB."""
    return _scaled(number, (" B", " kB", " MB", " GB", " TB"))


def percent(ratio: float) -> str:
    """How far a ratio is from one: +45%, -0.4%, 0%."""
    change = 100 * (ratio - 1)
    if abs(change) < 0.05:
        return "0%"
    return f"{change:+.0f}%" if abs(change) >= 9.95 else f"{change:+.1f}%"


def duration(seconds: float) -> str:
    """Seconds for people to read: 3.2 s, 57 s, 11 min 47 s, 2 h 05 min."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"
    if whole < 7200:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _scaled(number: float, units: tuple[str, ...]) -> str:
    """Three digits and a unit; whole numbers below a thousand stay whole."""
    power = 0
    # What would be rounded to four digits has the next unit.
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / 1000, power + 1
    digits = 0 if power == 0 or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f}{units[power]}"
