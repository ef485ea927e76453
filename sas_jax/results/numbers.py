"""Formats numbers for tables and reports, with a no-break space before units and true minus signs."""

import math

NOTHING = DASH = "\u2013"
SPACE = "\u00a0"
MINUS = "\u2212"


def known(value: float | None) -> bool:
    """Returns whether the value is a finite number."""
    return value is not None and math.isfinite(value)


def rounded(value: float, digits: int) -> float:
    """Rounds a number; never to -0.0, which would be shown with its sign."""
    return round(value, digits) + 0.0


def count(value: float | None) -> str:
    """Formats a whole number with thousands separators: 50,000."""
    return f"{round(value):,}" if value is not None and known(value) else NOTHING


def short(value: float | None) -> str:
    """Formats a number with at most two decimals: 20, 19.98."""
    return f"{round(value, 2):.6g}" if value is not None and known(value) else NOTHING


def decimal(value: float | None, digits: int = 3) -> str:
    """Formats a number with `digits` decimals."""
    return f"{value:,.{digits}f}".replace("-", MINUS) if value is not None and known(value) else NOTHING


def percent(share: float | None, digits: int = 1) -> str:
    """Formats a share in [0, 1] as a percentage: 61.2 %."""
    return f"{100 * share:.{digits}f}{SPACE}%" if share is not None and known(share) else NOTHING


def fraction(share: float | None) -> str:
    """Formats a chosen fraction with no more digits than it needs: 20 %, 0.5 %."""
    return f"{100 * share:.4g}{SPACE}%" if share is not None and known(share) else NOTHING


def interval(value: float, low: float, high: float) -> str:
    """Formats an accuracy with its interval: 61.2 % (57.0–65.3)."""
    return f"{percent(value)} ({span(low, high)})"


def span(low: float, high: float) -> str:
    """Formats an interval of shares, in percent without the sign: 57.0–65.3."""
    return f"{100 * low:.1f}{DASH}{100 * high:.1f}"


def points(difference: float) -> str:
    """Formats a difference of two accuracies in percentage points, always signed: +3.1."""
    return f"{100 * difference:+.1f}".replace("-", MINUS)


def duration(seconds: float | None) -> str:
    """Formats a time in at most two units: 0.4 s, 3 min 20 s, 2 h 5 min."""
    if seconds is None or not known(seconds):
        return NOTHING
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f}{SPACE}s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}{SPACE}min {whole % 60}{SPACE}s"
    minutes = round(seconds / 60)
    return f"{minutes // 60:,}{SPACE}h {minutes % 60}{SPACE}min"


def plural(number: int, one: str, many: str | None = None) -> str:
    """Formats a count with its noun: 1 image, 1,437 images."""
    return f"{count(number)} {one if number == 1 else many or one + 's'}"
