//! Times and durations as people write them.

use std::time::UNIX_EPOCH;

/// Milliseconds since 1970, by this machine's clock.
#[expect(clippy::disallowed_methods, reason = "a command is the outermost layer: here time begins")]
pub(crate) fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Milliseconds since 1970 of `2026-11-23T10:00:00Z` (RFC 3339, with any offset), a day alone, or
/// the number itself.
pub(crate) fn parse(text: &str) -> Option<i64> {
    if let Ok(number @ 0..) = text.parse() {
        return Some(number);
    }
    let (date, clock) = text.split_once(['T', ' ']).unwrap_or((text, "00:00:00Z"));
    let mut parts = date.splitn(3, '-').map(|part| part.parse::<i64>().ok());
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    let in_range = (1970..=9999).contains(&year)
        && (1..=12).contains(&month)
        && (1..=days_of(year, month)).contains(&day);
    if !in_range {
        return None;
    }
    let split = clock.find(['Z', 'z', '+', '-']).unwrap_or(clock.len());
    let (clock, zone) = clock.split_at_checked(split)?;
    let of_day = clock_ms(clock)?;
    Some(days_since_1970(year, month, day) * DAY_MS + of_day - zone_ms(zone)?)
}

/// Milliseconds of `90s`, `30m`, `12h`, `7d` or `250ms`.
pub(crate) fn duration(text: &str) -> Option<i64> {
    let split = text.find(|letter: char| !letter.is_ascii_digit())?;
    let (number, unit) = text.split_at_checked(split)?;
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        _ => return None,
    };
    number.parse::<i64>().ok()?.checked_mul(unit)
}

/// RFC 3339 in UTC, to the millisecond.
pub(crate) fn show(ms: i64) -> String {
    let (mut year, mut days) = (1970, ms.div_euclid(DAY_MS));
    while days >= days_since_1970(year + 1, 1, 1) - days_since_1970(year, 1, 1) {
        days -= days_since_1970(year + 1, 1, 1) - days_since_1970(year, 1, 1);
        year += 1;
    }
    let mut month = 1;
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        month += 1;
    }
    let rest = ms.rem_euclid(DAY_MS);
    let (hour, minute) = (rest / 3_600_000, rest / 60_000 % 60);
    let (second, milli) = (rest / 1000 % 60, rest % 1000);
    let day = days + 1;
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// `10:00`, `10:00:00` or `10:00:00.123`.
fn clock_ms(clock: &str) -> Option<i64> {
    let (whole, fraction) = clock.split_once('.').unwrap_or((clock, "0"));
    let mut parts = whole.splitn(3, ':').map(|part| part.parse::<i64>().ok());
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    let digits = fraction.get(..fraction.len().min(3))?;
    let scale = 10_i64.pow(3 - u32::try_from(digits.len()).ok()?);
    let milli = digits.parse::<i64>().ok()? * scale;
    let in_range =
        (0..24).contains(&hour) && (0..60).contains(&minute) && (0..61).contains(&second);
    in_range.then_some(((hour * 60 + minute) * 60 + second) * 1000 + milli)
}

/// `Z`, nothing, or `+01:00`.
fn zone_ms(zone: &str) -> Option<i64> {
    let sign = match zone.chars().next() {
        None | Some('Z' | 'z') => return Some(0),
        Some('-') => -1,
        Some(_) => 1,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 60 + minutes.parse::<i64>().ok()?) * 60_000)
}

fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let before = year - 1;
    let leaps = |year: i64| year / 4 - year / 100 + year / 400;
    let of_months: i64 = (1..month).map(|month| days_of(year, month)).sum();
    (year - 1970) * 365 + leaps(before) - leaps(1969) + of_months + day - 1
}

fn days_of(year: i64, month: i64) -> i64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

const DAY_MS: i64 = 86_400_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_rfc_3339_writes_them() {
        assert_eq!(parse("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(parse("2026-11-23T10:00:00Z"), Some(1_795_428_000_000));
        assert_eq!(parse("2026-11-23T11:00:00.25+01:00"), Some(1_795_428_000_250));
        assert_eq!(parse("2026-11-23"), Some(1_795_392_000_000));
        assert_eq!(parse("1795428000000"), Some(1_795_428_000_000));
        for wrong in ["", "soon", "2026-13-01", "2026-02-29", "2026-11-23T25:00:00Z", "-1"] {
            assert_eq!(parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_is_what_would_be_read() {
        for ms in [0, 951_782_399_999, 951_782_400_000, 1_795_428_000_250, 4_107_542_400_000] {
            assert_eq!(parse(&show(ms)), Some(ms), "{}", show(ms));
        }
        assert_eq!(show(1_795_428_000_250), "2026-11-23T10:00:00.250Z");
    }

    #[test]
    fn durations_have_a_unit() {
        assert_eq!(duration("90s"), Some(90_000));
        assert_eq!(duration("7d"), Some(604_800_000));
        for wrong in ["", "5", "5y", "s", "-5s"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
