//! Where time, ids and chance come from: one handle, so that a test can have all three the same again.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Milliseconds since 1970-01-01 UTC.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Timestamp(pub u64);

/// Gives out what is new each time: the hour, an id, a number by chance. Cheap to clone.
///
/// ```
/// # tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(async {
/// let mint = ottla::Mint::virtual_from(7); // the same ids at each run, and tokio's time, which tests can pause
/// let (first, second) = (mint.id(), mint.id());
/// assert!(first < second, "ids ascend");
/// let before = mint.now();
/// tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
/// assert_eq!(mint.now().0 - before.0, 3_600_000);
/// # });
/// ```
#[derive(Clone)]
pub struct Mint {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Clock,
    state: Mutex<State>,
}

#[derive(Debug)]
enum Clock {
    System,
    /// The wall time at a moment of tokio's clock.
    Virtual(tokio::time::Instant, Timestamp),
    /// Moved by hand; milliseconds since 1970.
    Fixed(AtomicU64),
}

struct State {
    chance: u64,
    last_ms: u64,
    counter: u16,
}

impl Mint {
    /// The machine's time and chance; one for the process.
    #[must_use]
    pub fn system() -> Self {
        static SYSTEM: OnceLock<Mint> = OnceLock::new();
        SYSTEM.get_or_init(|| Self::of(Clock::System, system_seed())).clone()
    }

    /// Tokio's time from the first second of 2026 on, and ids that are the same for the same seed: for
    /// tests under `tokio::time::pause`. Called inside a runtime.
    #[must_use]
    pub fn virtual_from(seed: u64) -> Self {
        Self::of(Clock::Virtual(tokio::time::Instant::now(), Timestamp(VIRTUAL_EPOCH_MS)), seed)
    }

    /// A clock that stands at the first second of 2026 until [`advance`](Self::advance) moves it, and ids that
    /// are the same for the same seed: for tests without a runtime.
    #[must_use]
    pub fn fixed(seed: u64) -> Self {
        Self::of(Clock::Fixed(AtomicU64::new(VIRTUAL_EPOCH_MS)), seed)
    }

    /// Moves the clock of [`fixed`](Self::fixed) on; others move by themselves.
    pub fn advance(&self, by: Duration) {
        if let Clock::Fixed(now) = &self.inner.clock {
            let by = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            now.fetch_add(by, Ordering::Relaxed);
        }
    }

    fn of(clock: Clock, seed: u64) -> Self {
        let state = State { chance: seed, last_ms: 0, counter: 0 };
        Self { inner: Arc::new(Inner { clock, state: Mutex::new(state) }) }
    }

    /// What time it is.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.inner.clock {
            Clock::System => system_now(),
            Clock::Virtual(start, epoch) => epoch.after(start.elapsed()),
            Clock::Fixed(now) => Timestamp(now.load(Ordering::Relaxed)),
        }
    }

    /// A UUIDv7 (RFC 9562 §5.7). Ids of one mint ascend.
    #[must_use]
    pub fn id(&self) -> Uuid {
        let now = self.now().0;
        let mut state = self.inner.state.lock().unwrap_or_else(PoisonError::into_inner);
        if now > state.last_ms {
            state.last_ms = now;
            state.counter = low(state.next()) & 0x7ff; // room to count up
        } else if state.counter == COUNTER_MAX {
            state.last_ms += 1; // §6.2 method 1: ahead of the clock rather than out of order
            state.counter = 0;
        } else {
            state.counter += 1;
        }
        let (ms, counter) = (state.last_ms, state.counter);
        let random = state.next();
        drop(state);
        let high = (ms << 16) | 0x7000 | u64::from(counter);
        Uuid::from_u64_pair(high, (random >> 2) | (0b10 << 62))
    }

    /// A number from 0 to below 1.
    #[must_use]
    pub fn fraction(&self) -> f64 {
        let bits = self.number() >> 32;
        f64::from(u32::try_from(bits).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
    }

    /// Any number.
    #[must_use]
    pub fn number(&self) -> u64 {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

impl State {
    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.chance = self.chance.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.chance;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

impl fmt::Debug for Mint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mint").field("clock", &self.inner.clock).finish_non_exhaustive()
    }
}

impl Timestamp {
    /// This much later.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    /// From an earlier moment to this one; nothing if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }

    /// Reads RFC 3339 in UTC (`2026-11-23T15:04:05Z`, with or without a fraction) or with an offset.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (date, rest) = text.split_once(['T', 't', ' '])?;
        let zone = rest.find(['Z', 'z', '+', '-'])?;
        let (time, zone) = rest.split_at_checked(zone)?;
        let mut date = date.splitn(3, '-').map(str::parse::<i64>);
        let (year, month, day) = (date.next()?.ok()?, date.next()?.ok()?, date.next()?.ok()?);
        let (clock, fraction) = time.split_once('.').unwrap_or((time, ""));
        let mut clock = clock.splitn(3, ':').map(str::parse::<i64>);
        let (hour, minute, second) =
            (clock.next()?.ok()?, clock.next()?.ok()?, clock.next()?.ok()?);
        let millis: i64 = format!("{fraction:0<3}").get(..3)?.parse().ok()?;
        let fits = (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60;
        if !fits || !(0..=60).contains(&second) || hour < 0 || minute < 0 {
            return None;
        }
        let seconds =
            days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second
                - offset_seconds(zone)?;
        u64::try_from(seconds * 1_000 + millis).ok().map(Self)
    }
}

/// As RFC 3339 in UTC with milliseconds.
impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, millis) = (self.0 / 1_000, self.0 % 1_000);
        let (days, in_day) = (seconds / 86_400, seconds % 86_400);
        let (year, month, day) = civil_from_days(i64::try_from(days).unwrap_or(0));
        let (hour, minute, second) = (in_day / 3_600, in_day / 60 % 60, in_day % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
    }
}

fn offset_seconds(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'Z' | b'z' => return Some(0),
        b'+' => 1,
        _ => -1,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    Some(sign * (hours.parse::<i64>().ok()? * 3_600 + minutes.parse::<i64>().ok()? * 60))
}

/// Days since 1970-01-01 of a day of the Gregorian calendar, counted from March.
const fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

const fn civil_from_days(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400;
    (if month <= 2 { year + 1 } else { year }, month, day)
}

#[expect(clippy::disallowed_methods, reason = "this is the toolkit's clock")]
fn system_now() -> Timestamp {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    Timestamp(u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX))
}

#[expect(clippy::disallowed_methods, reason = "the outermost layer seeds chance")]
fn system_seed() -> u64 {
    let mut seed = [0; 8];
    match getrandom::fill(&mut seed) {
        Ok(()) => u64::from_le_bytes(seed),
        Err(error) => {
            tracing::warn!(%error, "no random seed from the system: the clock must do");
            system_now().0
        }
    }
}

fn low(number: u64) -> u16 {
    u16::try_from(number & 0xffff).unwrap_or(0)
}

const COUNTER_MAX: u16 = 0x0fff;
/// 2026-01-01T00:00:00Z
const VIRTUAL_EPOCH_MS: u64 = 1_767_225_600_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn ten_thousand_ids_of_one_millisecond_ascend_and_are_version_7() {
        let mint = Mint::virtual_from(1);
        let ids: Vec<Uuid> = (0..10_000).map(|_| mint.id()).collect();
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
        assert!(
            ids.iter()
                .all(|id| id.get_version_num() == 7 && id.get_variant() == uuid::Variant::RFC4122)
        );
    }

    #[test]
    fn times_are_written_and_read_back() {
        // RFC 3339 §5.6; leap day, end of year, offset
        for (text, ms) in [
            ("1970-01-01T00:00:00.000Z", 0),
            ("2024-02-29T23:59:59.999Z", 1_709_251_199_999),
            ("2026-12-31T00:00:00.001Z", 1_798_675_200_001),
        ] {
            assert_eq!(Timestamp(ms).to_string(), text);
            assert_eq!(Timestamp::parse(text), Some(Timestamp(ms)));
        }
        assert_eq!(Timestamp::parse("1970-01-01T02:00:00+02:00"), Some(Timestamp(0)));
        assert_eq!(Timestamp::parse("1970-01-01T00:00:01.5Z"), Some(Timestamp(1_500)));
        for bad in ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01", "2026-01-01T00:00:00"] {
            assert_eq!(Timestamp::parse(bad), None, "{bad}");
        }
    }
}
