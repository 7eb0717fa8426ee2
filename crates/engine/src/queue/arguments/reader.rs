//! Arguments one by one: their types, ranges and words.

use super::{ArgumentError, ArgumentFault};
use crate::queue::settings::{Overflow, RetryOn};
use crate::value::{Arguments, Value};

/// Reads values under their names with the prefix that arguments have and policies have not.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a> {
    pub(super) table: &'a Arguments,
    pub(super) prefix: &'static str,
}

impl<'a> Reader<'a> {
    fn read<T>(
        self,
        name: &str,
        judge: impl FnOnce(&'a Value) -> Result<T, ArgumentFault>,
    ) -> Result<Option<T>, ArgumentError> {
        let argument = format!("{}{name}", self.prefix);
        let Some(value) = self.table.get(&argument) else { return Ok(None) };
        judge(value)
            .map(Some)
            .map_err(|fault| ArgumentError { argument: argument.into_boxed_str(), fault })
    }

    pub(super) fn int(self, name: &str) -> Result<Option<i64>, ArgumentError> {
        self.read(name, int)
    }

    pub(super) fn count(self, name: &str) -> Result<Option<u64>, ArgumentError> {
        self.read(name, count)
    }

    pub(super) fn millis(self, name: &str) -> Result<Option<u64>, ArgumentError> {
        self.read(name, |value| match count(value)? {
            ms if ms > MILLIS_MAX => Err(ArgumentFault::TooBig(int(value)?)),
            ms => Ok(ms),
        })
    }

    pub(super) fn positive_millis(self, name: &str) -> Result<Option<u64>, ArgumentError> {
        match self.millis(name)? {
            Some(0) => self.read(name, |_| Err(ArgumentFault::Zero)),
            other => Ok(other),
        }
    }

    pub(super) fn priority(self, name: &str) -> Result<Option<u8>, ArgumentError> {
        self.read(name, |value| {
            u8::try_from(count(value)?)
                .or_else(|_| Err(ArgumentFault::PriorityTooHigh(int(value)?)))
        })
    }

    pub(super) fn flag(self, name: &str) -> Result<Option<bool>, ArgumentError> {
        self.read(name, |value| value.as_bool().ok_or(ArgumentFault::NotBoolean(value.type_name())))
    }

    pub(super) fn text(self, name: &str) -> Result<Option<Box<str>>, ArgumentError> {
        self.read(name, |value| text(value).map(Into::into))
    }

    pub(super) fn word<T>(
        self,
        name: &str,
        unknown: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, ArgumentError> {
        self.read(name, |value| parse(text(value)?).ok_or(ArgumentFault::UnknownWord(unknown)))
    }
}

fn int(value: &Value) -> Result<i64, ArgumentFault> {
    value.as_int().ok_or(ArgumentFault::NotInteger(value.type_name()))
}

fn count(value: &Value) -> Result<u64, ArgumentFault> {
    let n = int(value)?;
    u64::try_from(n).map_err(|_| ArgumentFault::Negative(n))
}

fn text(value: &Value) -> Result<&str, ArgumentFault> {
    value.as_str().ok_or(ArgumentFault::NotText(value.type_name()))
}

pub(super) fn overflow(word: &str) -> Option<Overflow> {
    match word {
        "drop-head" => Some(Overflow::DropHead),
        "reject-publish" => Some(Overflow::RejectPublish),
        "reject-publish-dlx" => Some(Overflow::RejectPublishDeadLetter),
        _ => None,
    }
}

pub(super) fn retry_on(word: &str) -> Option<Option<RetryOn>> {
    match word {
        "disabled" => Some(None),
        "all" => Some(Some(RetryOn::All)),
        "failed" => Some(Some(RetryOn::Failed)),
        "returned" => Some(Some(RetryOn::Returned)),
        _ => None,
    }
}

/// `7D`: a number and one of Y, M, D, h, m, s; in milliseconds.
#[must_use]
pub fn interval_ms(word: &str) -> Option<u64> {
    let unit = word.chars().next_back()?;
    let seconds: u64 = match unit {
        'Y' => 365 * 86_400,
        'M' => 30 * 86_400,
        'D' => 86_400,
        'h' => 3_600,
        'm' => 60,
        's' => 1,
        _ => return None,
    };
    let number: u64 = word.strip_suffix(unit)?.parse().ok()?;
    number.checked_mul(seconds)?.checked_mul(1_000)
}

/// RabbitMQ's timers count 32 bits of milliseconds.
const MILLIS_MAX: u64 = 4_294_967_295;
